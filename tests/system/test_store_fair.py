"""One device floods a real broker; the store goes on with the others' faces. Figures: `benchmarks.fair`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire import faces
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import Source
from tests.rigs.flooding import flooding
from tests.storing import PORCH, StoreProcess, face, images_in
from tests.support import MosquittoServer, S3Server, eventually, running_broker

LOUD = Source("loud", "front")
RESEND_S = 2.0

Start = Callable[..., StoreProcess]


class Edge:
    """In the place of two devices' forwards: sends, and notes the receipts in their order."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.receipted: dict[str, None] = {}
        self.refused: dict[str, str] = {}

    async def hear(self) -> None:
        async for delivery in self._link:
            receipt = decode_receipt(delivery.message)
            self.receipted |= dict.fromkeys(receipt.ids)
            self.refused |= receipt.refused
            delivery.acknowledge()

    async def send(self, numbers: range, source: Source = PORCH) -> None:
        for number in numbers:
            self._link.publish(faces.encode_face(face(number, source)))
            await asyncio.sleep(0.001)  # below the broker's queue, which drops what goes beyond

    async def send_until_receipted(self, numbers: range, source: Source = PORCH) -> None:
        """Do as forward does: send again what is not receipted in time."""
        async with asyncio.timeout(90):
            while missing := self.missing(numbers, source):
                for number in missing:
                    await self.send(range(number, number + 1), source)
                await self._wait_a_while(numbers, source)

    async def _wait_a_while(self, numbers: range, source: Source) -> None:
        for _ in range(100):
            if not self.missing(numbers, source):
                return
            await asyncio.sleep(RESEND_S / 100)

    def missing(self, numbers: range, source: Source = PORCH) -> list[int]:
        return [number for number in numbers if face(number, source).id not in self.receipted]


@pytest.fixture
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MosquittoServer]:
    """A Mosquitto of the test's own, with whatever else it wants of it."""
    with running_broker(tmp_path, getattr(request, "param", "")) as server:
        yield server


@pytest.fixture
async def edge(broker: MosquittoServer) -> AsyncIterator[Edge]:
    topics = [f"faceferry/{device}/stored" for device in ("porch", "yard", "loud")]
    async with Link("cloud", Broker(broker.url), identity="edge", subscriptions=topics) as link:
        await link.wait_up()
        edge = Edge(link)
        hearing = asyncio.create_task(edge.hear())
        yield edge
        hearing.cancel()


@pytest.fixture
def start(broker: MosquittoServer, s3: S3Server, tmp_path: Path) -> Iterator[Start]:
    """Starts a store on the test's broker and bucket."""
    s3.create_bucket("faces")
    started: list[StoreProcess] = []

    def start(**environment: str) -> StoreProcess:
        log = tmp_path / f"store-{len(started)}.log"
        store = StoreProcess(broker.url, "s3://faces/home", log, **s3.environment, **environment)
        started.append(store.__enter__())
        return store

    yield start
    for store in started:
        store.kill()


def stored_of(store: StoreProcess) -> list[str]:
    """Whose faces were stored, in that order."""
    return [line["device"] for line in store.log if line["event"] == "store.face_stored"]


async def test_a_few_faces_are_stored_before_the_backlog_of_another_device_that_came_first(
    start: Start, edge: Edge, s3: S3Server
) -> None:
    store = await start(FACEFERRY_STORE_CONCURRENCY="1").until_ready()
    s3.kill()
    await edge.send(range(400), LOUD)
    await eventually(lambda: store.metric("faceferry_store_waiting_faces") == 400)
    await edge.send(range(10))
    await eventually(lambda: store.metric("faceferry_store_waiting_faces") == 410)
    s3.start()
    await eventually(lambda: len(edge.receipted) == 410, 90)
    devices = stored_of(store)
    assert devices.count("porch") == 10
    assert len(devices) - devices[::-1].index("porch") < 150
    assert store.metric("faceferry_store_dropped_total") == 0


async def test_in_a_full_room_the_one_with_most_loses_its_newest_and_nothing_is_lost_in_the_end(
    start: Start, edge: Edge, s3: S3Server
) -> None:
    store = await start(
        FACEFERRY_STORE_MAX_WAITING_FACES="60",
        FACEFERRY_STORE_RECEIVE_MAXIMUM="100",
        FACEFERRY_STORE_TOPICS="faceferry/porch/+/face,faceferry/loud/+/face",  # no lanes: each comes once
    ).until_ready()
    s3.kill()
    await edge.send(range(200), LOUD)
    await eventually(lambda: store.metric("faceferry_store_dropped_total") == 140)
    await edge.send(range(20))
    await eventually(lambda: store.metric("faceferry_store_dropped_total") == 160)
    s3.start()
    await eventually(lambda: len(edge.receipted) == 60)
    assert edge.missing(range(20)) == []
    assert len(edge.missing(range(200), LOUD)) == 160
    (first,) = [line for line in store.log if line["event"] == "store.face_dropped"]
    assert (first["reason"], first["device"]) == ("over_share", "loud")
    await edge.send_until_receipted(range(200), LOUD)
    assert len(images_in(s3.folder / "faces" / "home")) == 220


async def test_what_is_over_a_devices_rate_is_counted_and_left_to_it(
    start: Start, edge: Edge, s3: S3Server
) -> None:
    store = await start(FACEFERRY_STORE_DEVICE_MAX_FACES_S="20").until_ready()
    await edge.send(range(200), LOUD)
    await edge.send(range(20))
    await eventually(lambda: edge.missing(range(20)) == [])
    await eventually(lambda: store.metric("faceferry_store_dropped_total") > 100)
    assert len(edge.missing(range(200), LOUD)) > 100
    assert edge.refused == {}
    await edge.send_until_receipted(range(200), LOUD)
    assert len(images_in(s3.folder / "faces" / "home")) == 220


@pytest.mark.parametrize(
    "options",
    [
        ("--qos", "1"),
        ("--qos", "1", "--connections", "4"),
        ("--qos", "0", "--bytes", "500"),
        ("--kind", "garbage"),
        ("--kind", "bare", "--bytes", "2000"),
    ],
    ids=" ".join,
)
async def test_faces_of_a_device_are_stored_while_another_floods(
    start: Start, edge: Edge, broker: MosquittoServer, options: tuple[str, ...]
) -> None:
    store = await start().until_ready()
    await edge.send_until_receipted(range(1))
    with flooding(broker.port, LOUD.device, *options):
        await eventually(lambda: store.metric("faceferry_store_dropped_total") > 1_000, 60)
        await edge.send_until_receipted(range(1, 50))
        assert store.metric("faceferry_store_waiting_faces") <= 1_024
        assert store.resident_bytes < 400 * 1024 * 1024
    # What the flood has left waiting is no burden, either.
    await edge.send_until_receipted(range(50, 60))


@pytest.mark.parametrize("broker", ["max_queued_messages 100\n"], indirect=True)
async def test_what_a_known_device_sends_comes_past_a_flood_at_the_first_sending(
    start: Start, edge: Edge, broker: MosquittoServer
) -> None:
    store = await start(
        FACEFERRY_STORE_MAX_WAITING_FACES="150", FACEFERRY_STORE_RECEIVE_MAXIMUM="200"
    ).until_ready()
    await edge.send_until_receipted(range(1))
    with flooding(broker.port, LOUD.device, "--connections", "8"):
        await eventually(lambda: store.metric("faceferry_store_lanes") == 1, 60)
        await edge.send(range(10, 40))
        await eventually(lambda: edge.missing(range(10, 40)) == [], 60)
    assert [line["devices"] for line in store.log if line["event"] == "store.flood_began"] == [["loud"]]


async def test_a_device_that_begins_to_flood_loses_its_lane(
    start: Start, edge: Edge, broker: MosquittoServer
) -> None:
    store = await start().until_ready()
    await edge.send_until_receipted(range(1))
    await edge.send_until_receipted(range(1), Source("yard", "front"))
    with flooding(broker.port, LOUD.device, "--connections", "2"):
        await eventually(lambda: store.metric("faceferry_store_lanes") == 2, 60)
        with flooding(broker.port, "yard", "--connections", "2"):
            await eventually(lambda: store.metric("faceferry_store_lanes") == 1, 60)
            await edge.send(range(10, 60))
            await eventually(lambda: edge.missing(range(10, 60)) == [], 60)
