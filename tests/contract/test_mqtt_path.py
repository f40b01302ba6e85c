"""What `Link` makes of a way that swallows large packets."""

import asyncio
import contextlib
import json
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.up.brokers import find_mosquitto
from tests.support import eventually
from tests.tunnel import FAR, Tunnel, tunnel

PORT = 1883
END = """
import asyncio, contextlib, json, sys
from services.common.wire.message import Message
from services.common.mqtt import Broker, Link, LinkDown

async def main(url, is_sender):
    passed, waiting = [0], set()

    def answered(number):
        waiting.discard(number)
        passed[0] += 1

    async def receive(link):
        async for delivery in link:
            delivery.acknowledge()
            passed[0] += 1

    topics = () if is_sender else ["t"]
    async with Link("c", Broker(url), identity="end", subscriptions=topics, on_down=waiting.clear) as link:
        receiving = asyncio.create_task(receive(link))
        number = 0
        while True:
            if is_sender and link.is_up and len(waiting) < 3:
                number += 1
                waiting.add(number)
                with contextlib.suppress(LinkDown):
                    large = Message(topic="t", payload=bytes(20_000), qos=1)
                    link.publish(large, lambda _, number=number: answered(number))
            print(json.dumps([passed[0], link.why_not_ready()]), flush=True)
            await asyncio.sleep(0.2)

asyncio.run(main(sys.argv[1], sys.argv[2] == "sends"))
"""


@dataclass(slots=True)
class Told:
    """What an end of the way has said: how much has passed, and what it said of itself when that changed."""

    passed: int = 0
    states: list[str | None] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        return bool(self.states) and self.states[-1] is None

    def note(self, passed: int, state: str | None) -> None:
        self.passed = passed
        if not self.states or state != self.states[-1]:
            self.states.append(state)


@asynccontextmanager
async def end(way: Tunnel, namespace: str, host: str, role: str) -> AsyncIterator[Told]:
    """A link in a namespace that sends or receives all the time."""
    told = Told()
    command = way.command(namespace, sys.executable, "-c", END, f"mqtt://{host}:{PORT}", role)
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert child.stdout is not None

    async def listen(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            if line.startswith(b"["):
                told.note(*json.loads(line))

    listening = asyncio.create_task(listen(child.stdout))
    try:
        yield told
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await listening


@contextmanager
def broker_far_away(folder: Path) -> Iterator[Tunnel]:
    with tunnel() as way:
        config = folder / "far.conf"
        config.write_text(f"listener {PORT} 0.0.0.0\nallow_anonymous true\nset_tcp_nodelay true\n")
        command = way.command(way.far, find_mosquitto(), "-c", str(config))
        broker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield way
        finally:
            broker.kill()
            broker.wait()


@pytest.mark.parametrize("size_bytes", [1_300, 900])
async def test_a_way_that_swallows_what_we_send_is_said_and_smaller_packets_pass(
    tmp_path: Path, size_bytes: int
) -> None:
    """One change to not ready and one back, for all the connections that it takes."""
    with broker_far_away(tmp_path) as way:
        async with end(way, way.near, FAR, "sends") as told:
            await eventually(lambda: told.passed > 3, 20)
            way.most_bytes_up = size_bytes
            await eventually(lambda: not told.is_ready, 10)
            before = told.passed
            await eventually(lambda: told.is_ready and told.passed > before + 3, 60)
            assert way.dropped > 0
            assert told.states.count(None) == 2
            assert any("large ones do not" in str(state) for state in told.states) == (size_bytes == 900)


async def test_so_is_one_that_swallows_what_we_are_to_receive(tmp_path: Path) -> None:
    with broker_far_away(tmp_path) as way:
        async with end(way, way.near, FAR, "receives") as told, end(way, way.far, "127.0.0.1", "sends"):
            await eventually(lambda: told.passed > 3, 20)
            way.most_bytes_down = 1_300
            await eventually(lambda: not told.is_ready, 10)
            before = told.passed
            await eventually(lambda: told.is_ready and told.passed > before + 3, 60)
            assert way.dropped > 0


async def test_a_way_that_is_cut_for_a_while_is_none_of_those(tmp_path: Path) -> None:
    with broker_far_away(tmp_path) as way:
        async with end(way, way.near, FAR, "sends") as told:
            await eventually(lambda: told.passed > 3, 20)
            way.most_bytes_up = 0
            await eventually(lambda: not told.is_ready, 10)
            await asyncio.sleep(8)
            way.most_bytes_up = 1_500
            before = told.passed
            await eventually(lambda: told.is_ready and told.passed > before + 3, 30)
            assert not any("MTU" in str(state) for state in told.states)
