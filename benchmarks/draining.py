"""A backlog drains through forward or through Mosquitto's own bridge, over a link with a given capacity."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.mqtt import Broker, Link, LinkDown
from services.common.runtime.concurrency import Gatherer
from services.common.wire.faces import Face, encode_face
from services.common.wire.receipts import MAX_IDS, encode_stored
from services.forward.spool.disk import Spool
from tests.custody import damage
from tests.custody.damage import Row
from tests.custody.faces import DEVICE, known_face
from tests.custody.proxy import Proxy, Shape
from tests.custody.rig import PASSWORD
from tests.custody.undeliverable import broker_rules, fill
from tests.support import MosquittoServer, ServiceProcess, eventually

FACE_BYTES = 20_000
OURS = "forward"
BRIDGE, TUNED_BRIDGE = "Mosquitto bridge, default window", "Mosquitto bridge, window of 1,000"
NEW_FACE_EVERY_S = 1.0
FIRST_NEW = 1_000_000
GIVE_UP_S = 150.0
RESERVE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Road:
    """The link between the edge and the cloud: its capacity, 0 for bare loopback, and its round trip."""

    megabits_s: int = 0
    round_trip_ms: int = 0

    @property
    def bytes_per_s(self) -> float:
        """The capacity in bytes a second; 0 for bare loopback."""
        return self.megabits_s * 1e6 / 8

    def __str__(self) -> str:
        return f"{self.megabits_s} Mbit/s, {self.round_trip_ms} ms" if self.megabits_s else "loopback"


@dataclass(frozen=True, slots=True)
class Drain:
    """The result of draining one backlog.

    Attributes:
        faces_per_s: at the receiver, from the first face to the last.
        bytes_per_s: of their images.
        new_face_s: seconds of each new face from its publication to the receiver.
    """

    faces_per_s: float
    bytes_per_s: float
    new_face_s: tuple[float, ...]


class _Receiver:
    """A bare subscriber that receipts what it receives."""

    def __init__(self, broker_url: str) -> None:
        self.arrived_s: dict[str, float] = {}
        self._receipts: Gatherer[str] = Gatherer(self._send, most=MAX_IDS)
        topics = [f"faceferry/{DEVICE}/+/face"]
        broker = Broker(broker_url)
        self.link = Link("cloud", broker, identity="receiver", subscriptions=topics, receive_maximum=1_000)

    async def run(self) -> None:
        """Take in faces until cancelled."""
        async for delivery in self.link:
            delivery.acknowledge()
            face_id = next(value for name, value in delivery.message.attributes if name == "id")
            self.arrived_s.setdefault(face_id, time.monotonic())
            self._receipts.add(face_id)

    def _send(self, ids: list[str]) -> None:
        with contextlib.suppress(LinkDown):  # at the very end
            self.link.publish(encode_stored(DEVICE, ids, {}))


async def drain(way: str, road: Road, backlog: Sequence[Face], bad: Sequence[Row] | None = None) -> Drain:
    """Let a backlog drain and measure it.

    Args:
        way: `OURS` or a bridge.
        road: to the cloud.
        backlog: of good faces.
        bad: rows of forward's spool that cannot be delivered, spread among the good ones; None: none, and a
            broker that refuses nothing.

    Raises:
        TimeoutError: a good face has not arrived.
    """
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        async with AsyncExitStack() as stack:
            cloud = MosquittoServer(folder, "" if bad is None else broker_rules(folder)).start()
            stack.callback(cloud.kill)
            proxy = await stack.enter_async_context(Proxy(cloud.port))
            if road.megabits_s:
                proxy.shape = Shape(road.bytes_per_s, road.round_trip_ms / 2000)
            await proxy.refuse()
            receiver = _Receiver(cloud.url)
            await stack.enter_async_context(receiver.link)
            running = asyncio.create_task(receiver.run())
            stack.callback(running.cancel)
            await receiver.link.wait_up()
            edge = (
                _forward(folder, proxy, backlog, bad) if way == OURS else _bridge(folder, proxy, way, backlog)
            )
            link = await stack.enter_async_context(edge)
            await proxy.listen()
            new_s = await _watch(link, receiver, {face.id for face in backlog})
        arrived = sorted(receiver.arrived_s[face.id] for face in backlog)
        seconds = arrived[-1] - arrived[0]
        size_bytes = sum(len(face.image) for face in backlog[1:])
        return Drain((len(backlog) - 1) / seconds, size_bytes / seconds, new_s)


@asynccontextmanager
async def _forward(
    folder: Path, proxy: Proxy, backlog: Sequence[Face], bad: Sequence[Row] | None
) -> AsyncIterator[Link]:
    """Run forward with the backlog in its spool; yield a link to its broker."""
    spool = folder / "spool"
    spool.mkdir()
    Spool(spool, RESERVE_BYTES, DEVICE).close()
    damage.settle(spool / damage.DATABASE)
    fill(spool / damage.DATABASE, backlog, bad or (), random.Random(1))
    damage.settle(spool / damage.DATABASE)
    user = "" if bad is None else f"{DEVICE}@"
    local = MosquittoServer(folder)
    settings = {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://{user}127.0.0.1:{proxy.port}",
        "FACEFERRY_SPOOL_PATH": str(spool),
        **({"FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD} if user else {}),
    }
    with contextlib.ExitStack() as stack:
        stack.callback(local.start().kill)
        forward = stack.enter_context(ServiceProcess("forward", folder, settings))
        async with Link("local", Broker(local.url), identity="detect") as link:
            await link.wait_up()
            await eventually(lambda: forward.log.count("mqtt.link_up") >= 1, 20)
            yield link


@asynccontextmanager
async def _bridge(folder: Path, proxy: Proxy, way: str, backlog: Sequence[Face]) -> AsyncIterator[Link]:
    """Run a Mosquitto that bridges, with the backlog in its memory; yield a link to it."""
    window = 20 if way == BRIDGE else 1_000
    local = MosquittoServer(folder)
    dropped = ("max_inflight", "max_queued", *(("set_tcp_nodelay",) if way == BRIDGE else ()))
    kept = [line for line in local.config.read_text().splitlines() if not line.startswith(dropped)]
    bridge = [
        "connection cloud",
        f"address 127.0.0.1:{proxy.port}",
        "topic faceferry/# out 1",
        "bridge_protocol_version mqttv50",
        "restart_timeout 1",
        "cleansession false",
        "try_private false",
        "notifications false",
        f"max_inflight_messages {window}",
        *("max_queued_messages 0", "max_queued_bytes 0"),  # with the default one all but 1,000 are dropped
    ]
    local.config.write_text("\n".join([*kept, *bridge, ""]))
    with contextlib.ExitStack() as stack:
        stack.callback(local.start().kill)
        async with Link("local", Broker(local.url), identity="detect") as link:
            await link.wait_up()
            await _fill(link, backlog)
            yield link


async def _watch(link: Link, receiver: _Receiver, backlog: set[str]) -> tuple[float, ...]:
    """Publish a new face now and then until the backlog has arrived; return how long each took."""
    published: dict[str, float] = {}
    started_s = last_s = time.monotonic()
    while not backlog <= receiver.arrived_s.keys():
        if time.monotonic() - started_s > GIVE_UP_S:
            raise TimeoutError(f"{len(backlog - receiver.arrived_s.keys())} faces have not arrived")
        if receiver.arrived_s and time.monotonic() - last_s > NEW_FACE_EVERY_S:
            last_s = time.monotonic()
            face = known_face(0, FIRST_NEW + len(published), FACE_BYTES)
            published[face.id] = last_s
            link.publish(encode_face(face))
        await asyncio.sleep(0.02)
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: published.keys() <= receiver.arrived_s.keys(), 20)
    ended_s = time.monotonic()
    return tuple(receiver.arrived_s.get(face_id, ended_s) - at_s for face_id, at_s in published.items())


async def _fill(link: Link, backlog: Sequence[Face]) -> None:
    """Publish the backlog into the local broker."""
    waiting = 0

    def acknowledged(_refusal: str | None) -> None:
        nonlocal waiting
        waiting -= 1

    for face in backlog:
        while waiting >= 200:  # noqa: ASYNC110 - the link calls back in this loop
            await asyncio.sleep(0.002)
        waiting += 1
        link.publish(encode_face(face), acknowledged)
    await eventually(lambda: waiting == 0, 60)
