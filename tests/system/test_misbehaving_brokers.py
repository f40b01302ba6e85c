"""forward as a process with a false broker before a real one: its faces arrive all the same."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.mqtt.failover import Failover
from services.common.wire.message import Message
from tests.false_broker import FalseBroker, false_broker, goodbye
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.system.test_forward import DEVICE, Detect, Store, face, neighbours, settings

FACES = 12


@dataclass
class Between:
    """forward between detect and two brokers, the first of which is false.

    Attributes:
        false: the false one.
        forward: the service.
        detect, store: the drivers; the store is at the real broker.
    """

    false: FalseBroker
    forward: ServiceProcess
    detect: Detect
    store: Store

    def readyz(self) -> str:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.forward.http_port}/readyz", timeout=5
            ) as answer:
                said = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode()
        cloud: str = json.loads(said)["checks"].get("cloud_broker", "")
        return cloud

    async def all_arrive(self, count: int = FACES, timeout_s: float = 60.0) -> None:
        await self.detect.publish([face(number) for number in range(count)])
        await eventually(lambda: len(self.store.arrived) == count, timeout_s)


@asynccontextmanager
async def between(
    folder: Path, local: MosquittoServer, cloud: MosquittoServer | None, **behaviour: object
) -> AsyncIterator[Between]:
    async with AsyncExitStack() as stack:
        false = await stack.enter_async_context(false_broker(**behaviour))
        urls = [false.url, *([cloud.url] if cloud else [])]
        addresses = [false.address, *([f"127.0.0.1:{cloud.port}"] if cloud else [])]
        while Failover(f"forward-{DEVICE}", addresses, 0.5).preferred != 0:
            false = await stack.enter_async_context(false_broker(**behaviour))
            urls[0], addresses[0] = false.url, false.address
        environment = {**settings(folder, local, local), "FACEFERRY_CLOUD_MQTT_URL": ",".join(urls)}
        forward = ServiceProcess("forward", folder, environment)
        stack.callback(forward.kill)
        forward.start()
        detect, store = await stack.enter_async_context(neighbours(local, cloud or local))
        yield Between(false, forward, detect, store)


def is_face(message: Message) -> bool:
    return message.topic.endswith("/face")


@pytest.mark.parametrize("code", [0x87, 0x97])
async def test_one_that_refuses_all_faces_is_left(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, code: int
) -> None:
    async with between(
        tmp_path, local, cloud, answer=lambda message, _size: code if is_face(message) else 0
    ) as at:
        await at.all_arrive()
    assert "the broker refuses our faces" in at.forward.log


@pytest.mark.parametrize("code", [0x87, 0x97])
async def test_alone_it_is_not_ready_while_it_refuses_them(
    tmp_path: Path, local: MosquittoServer, code: int
) -> None:
    async with between(
        tmp_path, local, None, answer=lambda message, _size: code if is_face(message) else 0
    ) as at:
        await at.detect.publish([face(number) for number in range(FACES)])
        await eventually(lambda: "the broker refuses our faces" in at.readyz(), 20)
        at.false.answer = lambda _message, _size: 0
        for number in range(FACES, FACES + 20):  # a refused topic is asked again every three seconds
            await at.detect.publish([face(number)])
            await asyncio.sleep(0.5)
        await eventually(lambda: at.readyz() == "ok", 20)


async def test_one_that_acknowledges_nothing_is_left(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    async with between(tmp_path, local, cloud, answer=lambda _message, _size: None) as at:
        await at.all_arrive()
    assert "it has acknowledged nothing for 10 s" in at.forward.log


async def test_one_where_nobody_listens_is_left(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    """It takes all faces and has nobody to give them to, and does not even say so."""
    async with between(tmp_path, local, cloud) as at:
        await at.all_arrive()
    assert "nothing was receipted through it" in at.forward.log


@pytest.mark.parametrize("last_words", [b"", goodbye(0x95)])
async def test_a_limit_that_is_not_announced_holds_up_no_other_face(
    tmp_path: Path, local: MosquittoServer, last_words: bytes
) -> None:
    """Without another broker: the large face is held, the small ones go."""
    async with between(
        tmp_path, local, None, answer=lambda _m, size: last_words if size > 100_000 else 0, receipts=True
    ) as at:
        small = [face(number) for number in range(FACES)]
        await at.detect.publish([face(99, 150_000), *small])

        def seen() -> set[bytes]:
            return {message.payload for message in at.false.published}

        await eventually(lambda: {each.image for each in small} <= seen(), 30)
        await eventually(lambda: at.forward.metric("faceferry_set_aside_faces") == 1, 30)
        at.false.answer = lambda _message, _size: 0
        connects = len(at.false.connects)
        await asyncio.sleep(3.0)
        assert len(at.false.connects) == connects, "it stands"


async def test_faces_go_slower_where_they_come_too_fast(tmp_path: Path, local: MosquittoServer) -> None:
    """It takes ten a second and says so by ending the connection."""
    came_s: list[float] = []

    def answer(message: Message, _size: int) -> int | bytes:
        if not is_face(message):
            return 0
        now_s = asyncio.get_running_loop().time()
        came_s.append(now_s)
        return goodbye(0x96) if sum(now_s - each < 1.0 for each in came_s) > 40 else 0

    async with between(tmp_path, local, None, answer=answer, receipts=True) as at:
        faces = [face(number, 500) for number in range(150)]
        await at.detect.publish(faces)
        wanted = {each.image for each in faces}
        await eventually(lambda: wanted <= {message.payload for message in at.false.published}, 60)
        assert len(at.false.connects) < 12
