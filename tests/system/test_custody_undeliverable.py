"""Faces that cannot be delivered stand in nobody's way; `benchmarks.forward` takes the time."""

import asyncio
import random
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire.faces import decode_face, encode_face
from services.common.wire.receipts import encode_stored
from tests.custody import damage
from tests.custody.faces import DEVICE, known_face
from tests.custody.rig import PASSWORD
from tests.custody.undeliverable import SORTS, broker_rules, fill, undeliverable
from tests.support import MosquittoServer, ServiceProcess, eventually

OF_EACH = 200
GOOD = [known_face("good", number, 8_000) for number in range(600)]
LIVE = [known_face("live", number, 8_000) for number in range(60)]
_SAMPLE = re.compile(r'^faceferry_set_aside_faces\{reason="(\w+)"\} (\S+)', re.MULTILINE)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[MosquittoServer]:
    server = MosquittoServer(tmp_path, broker_rules(tmp_path))
    yield server
    server.kill()


@pytest.fixture
def forward(tmp_path: Path, broker: MosquittoServer, cloud: MosquittoServer) -> Iterator[ServiceProcess]:
    settings = {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": broker.url,
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://{DEVICE}@127.0.0.1:{cloud.port}",
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
        "FACEFERRY_RESEND_FIRST_S": "1",
    }
    process = ServiceProcess("forward", tmp_path, settings)
    yield process
    process.kill()


class Store:
    """Takes what is whole, and receipts it."""

    def __init__(self, link: Link) -> None:
        self.stored: set[str] = set()
        self._link = link

    async def run(self) -> None:
        async for delivery in self._link:
            face = decode_face(delivery.message)
            self.stored.add(face.id)
            self._link.publish(encode_stored(DEVICE, [face.id], {}))
            delivery.acknowledge()


async def prepared(forward: ServiceProcess, folder: Path, sorts: dict[str, int]) -> Path:
    """Have forward make its spool, and fill it while nobody uses it."""
    path = folder / "spool" / damage.DATABASE
    forward.start()
    await eventually(lambda: "mqtt.link_up" in forward.log, 20)
    forward.kill()
    damage.settle(path)
    bad = [row for sort, count in sorts.items() for row in undeliverable(sort, count, 8_000)]
    fill(path, GOOD, bad, random.Random(1))
    return path


def set_aside(forward: ServiceProcess) -> dict[str, int]:
    """Return how many faces are set aside, by reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{forward.http_port}/metrics", timeout=5) as answer:
        found = _SAMPLE.findall(answer.read().decode())
    return {reason: int(float(count)) for reason, count in found if float(count)}


@pytest.mark.parametrize("sorts", [*([sort] for sort in SORTS), [*SORTS]], ids="+".join)
async def test_good_faces_arrive_whatever_else_is_in_the_spool_and_the_rest_is_counted(
    tmp_path: Path, broker: MosquittoServer, cloud: MosquittoServer, forward: ServiceProcess, sorts: list[str]
) -> None:
    path = await prepared(forward, tmp_path, dict.fromkeys(sorts, OF_EACH))
    before = len(damage.rows_of(path))
    expected: dict[str, int] = {}
    for sort in sorts:
        reason = SORTS[sort][1]
        expected[reason] = expected.get(reason, 0) + OF_EACH
    cloud.start()
    async with (
        Link("c", Broker(cloud.url), identity="t", subscriptions=[f"faceferry/{DEVICE}/+/face"]) as link,
        Link("l", Broker(broker.url), identity="t") as local,
    ):
        store = Store(link)
        running = asyncio.create_task(store.run())
        await link.wait_up()
        await local.wait_up()
        forward.start()
        good = {face.id for face in GOOD}
        await eventually(lambda: good <= store.stored, 30)
        await eventually(lambda: forward.log.count("mqtt.link_up") >= 2, 20)
        for face in LIVE:
            local.publish(encode_face(face))
        await eventually(lambda: {face.id for face in LIVE} <= store.stored, 20)
        await eventually(lambda: set_aside(forward) == expected, 10)
        # The store stays until forward has heard all that it said.
        await eventually(lambda: forward.metric("faceferry_spool_faces") == 0, 10)
        running.cancel()
    assert forward.stop() == 0
    damage.settle(path)
    assert len(damage.rows_of(path)) == before - len(GOOD), "nothing of what is kept apart is destroyed"
