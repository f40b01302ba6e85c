"""What a device that is let in can do to the others at the cloud's broker: nothing that they notice."""

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from services.common.wire import faces
from services.common.wire.topics import Source
from services.store.listener import group_of
from tests.cloud_broker import MEMORY_BYTES, CloudBroker, running_cloud_broker
from tests.hostile_client import (
    QOS_1,
    QOS_2,
    RETAIN,
    HostileClient,
    publish,
    subscribe,
    user_property,
)
from tests.storing import StoreProcess, face, receipted
from tests.support import MosquittoServer, ServiceProcess, eventually

YARD = Source("yard", "front")
FOR_EVER_S = 0xFFFF_FFFF
IN_TIME_S = 2.0

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudBroker]:
    with running_cloud_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def store(cloud: CloudBroker, tmp_path: Path) -> Iterator[StoreProcess]:
    settings = cloud.environment("_store")
    url = settings.pop("FACEFERRY_CLOUD_MQTT_URL")
    settings["FACEFERRY_LOG_LEVEL"] = "debug"
    with StoreProcess(url, (tmp_path / "faces").as_uri(), tmp_path / "store.log", **settings) as process:
        yield process


def uplink(cloud: CloudBroker, device: str, topic: str | None = None) -> Link:
    """A connection in the place of a device's forward."""
    topics = [topic or f"faceferry/{device}/stored"]
    return Link("cloud", cloud.known(device), identity=f"forward-{device}", subscriptions=topics)


async def share_receipted(yard: Link, count: int) -> float:
    """Send faces once each; return how many of them are receipted, in parts of all."""
    for number in range(count):
        yard.publish(faces.encode_face(face(number, YARD)))
    ids: set[str] = set()
    with suppress(TimeoutError):
        async with asyncio.timeout(10.0):
            while len(ids) < count:
                ids |= (await receipted(yard, 1)).ids
    return len(ids) / count


@pytest.mark.parametrize("filter_", ["faceferry/+/+/face", "faceferry/yard/+/face", "#"])
async def test_who_joins_a_group_of_the_stores_name_takes_no_face_from_the_store(
    cloud: CloudBroker, store: StoreProcess, filter_: str
) -> None:
    await store.until_ready()
    async with AsyncExitStack() as stack:
        for number in range(20):
            link = await stack.enter_async_context(uplink(cloud, f"bad-{number}", f"$share/store/{filter_}"))
            await link.wait_up()
        yard = await stack.enter_async_context(uplink(cloud, "yard"))
        await yard.wait_up()
        assert await share_receipted(yard, 200) >= 0.98


async def test_the_group_s_name_is_nowhere_to_be_seen(cloud: CloudBroker, store: StoreProcess) -> None:
    key = (cloud.secrets / "store.key").read_bytes()
    name = group_of(b"".join(key.split()))
    await store.until_ready()
    told = [store.output, cloud.log, *(store._get(page) for page in ("readyz", "metrics"))]
    assert all(told)
    assert not any(name in text for text in told)


def states(name: bytes, payload: bytes, count: int, properties: bytes = b"") -> Iterator[bytes]:
    for number in range(count):
        topic = b"faceferry/bad/%s%d/status" % (name, number)
        yield publish(topic, payload, RETAIN, properties=properties)


def subscriptions(name: bytes, count: int, at_once: int = 1) -> Iterator[bytes]:
    for number in range(0, count, at_once):
        yield subscribe(*(b"%s%d/a/b" % (name, number + each) for each in range(at_once)))


def faces_of(count: int, size_bytes: int, flags: int) -> Iterator[bytes]:
    for number in range(count):
        yield publish(b"faceferry/bad/front/face", bytes(size_bytes), flags, 1 + number % 65_535)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "large states": lambda: states(b"c", bytes(4_000_000), 120),
    "many states": lambda: states(b"c", b"online", 400_000),
    "states with long names": lambda: states(b"c" * 60_000, b"online", 5_000),
    "states with large properties": lambda: states(
        b"c", b"online", 130, 30 * user_property(b"n" * 60_000, b"v" * 60_000)
    ),
    "long subscriptions": lambda: subscriptions(b"s" * 60_000, 5_000),
    "many subscriptions": lambda: subscriptions(b"s", 150_000, at_once=500),
    "faces that are never released": lambda: faces_of(150, 4_000_000, QOS_2),
}
"""What a device may send, and the broker keeps: more of it than the container may take."""


def flood(broker: Broker, packets: Iterator[bytes], is_over: threading.Event) -> None:
    """Send, with a session that is never to end, over as many connections as it takes."""
    while not is_over.is_set():
        with suppress(OSError), HostileClient(broker, "bad", expiry_s=FOR_EVER_S) as client:
            for packet in packets:
                client.send(packet)
                if is_over.is_set():
                    return
            return


@contextmanager
def attacking(attack: Callable[[threading.Event], None]) -> Iterator[threading.Thread]:
    """Have a thread attack, for as long as the context lasts at most."""
    is_over = threading.Event()
    thread = threading.Thread(target=attack, args=(is_over,), daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        is_over.set()
        thread.join(15.0)


@contextmanager
def most_memory(cloud: CloudBroker) -> Iterator[list[int]]:
    """Watch what the broker has in memory, in bytes; the list's only number is the most."""
    most = [0]

    def watch(is_over: threading.Event) -> None:
        while not is_over.wait(0.02):
            most[0] = max(most[0], cloud.resident_bytes)

    with attacking(watch):
        yield most


class Yard:
    """A device that means well: its forward, and the broker that this takes faces from."""

    def __init__(self, link: Link, folder: Path) -> None:
        self._link = link
        self.folder = folder
        self._sent = itertools.count()

    def send(self) -> str:
        """Hand a face to forward; return the name of its image in the store."""
        one = face(next(self._sent), YARD)
        self._link.publish(faces.encode_face(one))
        return f"{one.id}.jpg"

    async def send_and_wait_s(self) -> float:
        """Return how long a face takes to the store."""
        name, began_s = self.send(), time.monotonic()
        await eventually(lambda: next(self.folder.rglob(name), None), 20.0)
        return time.monotonic() - began_s


@pytest.fixture
async def yard(cloud: CloudBroker, local: MosquittoServer, tmp_path: Path) -> AsyncIterator[Yard]:
    settings = {
        **cloud.environment("yard"),
        "FACEFERRY_DEVICE": "yard",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
    }
    forward = ServiceProcess("forward", tmp_path, settings).start()
    try:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2, 30.0)
        async with Link("local", Broker(local.url), identity="detect") as link:
            await link.wait_up()
            yield Yard(link, tmp_path / "faces")
    finally:
        forward.kill()


@pytest.mark.parametrize("sort", FLOODS)
async def test_a_flood_of_what_a_broker_keeps_holds_nobody_up(
    cloud: CloudBroker, store: StoreProcess, yard: Yard, sort: str
) -> None:
    await store.until_ready()
    bad = cloud.known("bad")
    with most_memory(cloud) as most, attacking(lambda is_over: flood(bad, FLOODS[sort](), is_over)) as thread:
        took_s: list[float] = []
        while len(took_s) < 20 or thread.is_alive():
            took_s.append(await yard.send_and_wait_s())
            await asyncio.sleep(0.2)
    assert max(took_s) < IN_TIME_S
    assert most[0] < MEMORY_BYTES


async def test_what_a_device_sends_to_a_store_that_is_stopped_is_bounded_and_gone_when_it_goes_on(
    cloud: CloudBroker, store: StoreProcess, yard: Yard
) -> None:
    await store.until_ready()
    before = cloud.resident_bytes
    store.signal(signal.SIGSTOP)
    with most_memory(cloud) as most, HostileClient(cloud.known("bad"), "bad") as bad:
        for packet in faces_of(150, 2_000_000, QOS_1):
            bad.send(packet)
        await asyncio.sleep(1.0)
        name = yard.send()
        store.signal(signal.SIGCONT)
        await eventually(lambda: next(yard.folder.rglob(name), None), 15.0)
    assert most[0] - before < 200_000_000
    assert await yard.send_and_wait_s() < IN_TIME_S


async def test_hundreds_of_connections_of_one_device_leave_room_for_another(
    cloud: CloudBroker, store: StoreProcess, yard: Yard
) -> None:
    await store.until_ready()
    bad = cloud.known("bad")
    with most_memory(cloud) as most, ExitStack() as stack:
        for number in range(300):
            will = (b"faceferry/bad/%d/status" % number, bytes(60_000))
            stack.enter_context(HostileClient(bad, f"bad-{number}", will=will))
            if number % 15 == 0:
                assert await yard.send_and_wait_s() < IN_TIME_S
    assert most[0] < MEMORY_BYTES


async def test_a_broker_that_is_asked_to_end_ends(cloud: CloudBroker) -> None:
    assert cloud.resident_bytes > 0
    assert await asyncio.to_thread(cloud.stop) == 0
    assert cloud.resident_bytes == 0
