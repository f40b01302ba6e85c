"""One backlog that drains, through forward or through Mosquitto's own bridge, over a link of one's choice."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.batches import Batch
from services.common.faces import Face, encode_face
from services.common.mqtt import Broker, Link, LinkDown
from services.common.receipts import MAX_IDS, encode_stored
from services.forward.spool import Changes, Spool
from services.forward.spooled import SpooledFace
from tests.custody.faces import DEVICE, known_face
from tests.custody.proxy import Proxy, Shape
from tests.support import MosquittoServer, ServiceProcess, eventually

FACE_BYTES = 20_000
OURS, BRIDGE, TUNED_BRIDGE = (
    "forward",
    "Mosquitto bridge, default window",
    "Mosquitto bridge, window of 1,000",
)
WAYS = (OURS, BRIDGE, TUNED_BRIDGE)
NEW_FACE_EVERY_S = 1.0
FIRST_NEW = 1_000_000
GIVE_UP_S = 150.0


@dataclass(frozen=True, slots=True)
class Road:
    """What lies between the edge and the cloud.

    Attributes:
        megabits_s: its capacity; 0 for bare loopback.
        round_trip_ms: both ways together.
    """

    megabits_s: int = 0
    round_trip_ms: int = 0

    @property
    def bytes_per_s(self) -> float:
        """The capacity in bytes a second; 0 for bare loopback."""
        return self.megabits_s * 1e6 / 8

    @property
    def shape(self) -> Shape | None:
        """What the proxy has to do."""
        return Shape(self.bytes_per_s, self.round_trip_ms / 2000) if self.megabits_s else None

    def __str__(self) -> str:
        return f"{self.megabits_s} Mbit/s, {self.round_trip_ms} ms" if self.megabits_s else "loopback"


@dataclass(frozen=True, slots=True)
class Drain:
    """How one backlog went.

    Attributes:
        faces_per_s: at the receiver.
        bytes_per_s: of their images, at the receiver.
        new_face_s: how long each new face took from its publication to the receiver.
    """

    faces_per_s: float
    bytes_per_s: float
    new_face_s: tuple[float, ...]


class Receiver:
    """A bare subscriber that receipts what comes in."""

    def __init__(self, broker_url: str) -> None:
        self.arrived_s: dict[str, float] = {}
        self._receipts: Batch[str] = Batch(self._send, most=MAX_IDS)
        self.link = Link(
            "cloud",
            Broker(broker_url),
            identity="receiver",
            subscriptions=[f"faceferry/{DEVICE}/+/face"],
            receive_maximum=1_000,
        )

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


def bridge_config(port: int, window: int) -> str:
    """Return what makes a local broker a bridge to a port; `window` messages unacknowledged."""
    return (
        "\n".join(
            [
                "connection cloud",
                f"address 127.0.0.1:{port}",
                "topic faceferry/# out 1",
                "bridge_protocol_version mqttv50",
                "restart_timeout 1",
                "cleansession false",
                "try_private false",
                "notifications false",
                "",
            ]
        )
        + f"max_inflight_messages {window}\nmax_queued_messages 0\nmax_queued_bytes 0\n"
    )


@asynccontextmanager
async def edge_of(way: str, folder: Path, proxy: Proxy, backlog: Sequence[Face]) -> AsyncIterator[Link]:
    """An edge that holds the backlog and tries to reach the cloud; yields a link to its broker."""
    async with AsyncExitStack() as stack:
        config = ""
        if way != OURS:
            config = bridge_config(proxy.port, 20 if way == BRIDGE else 1_000)
        local = MosquittoServer(folder)
        text = local.config.read_text()
        if config:
            dropped = ("max_inflight", "max_queued", *(("set_tcp_nodelay",) if way == BRIDGE else ()))
            text = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(dropped))
        local.config.write_text(text + config)
        local.start()
        stack.callback(local.kill)
        if way == OURS:
            spool = Spool(_made(folder / "spool"), 8 * 1024 * 1024, DEVICE)
            for start in range(0, len(backlog), 64):
                chunk = enumerate(backlog[start : start + 64], start + 1)
                spool.write(Changes([SpooledFace(n, face.id, encode_face(face)) for n, face in chunk]))
            spool.close()
            forward = ServiceProcess("forward", folder, forward_settings(folder, local, proxy)).start()
            stack.callback(forward.kill)
        link = await stack.enter_async_context(Link("local", Broker(local.url), identity="detect"))
        await link.wait_up()
        if way == OURS:
            await eventually(lambda: forward.log.count("mqtt.link_up") >= 1, 20)
        else:
            await _fill(link, backlog)
        yield link


def forward_settings(folder: Path, local: MosquittoServer, proxy: Proxy) -> dict[str, str]:
    """Return forward's settings, all defaults but where things are."""
    return {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://127.0.0.1:{proxy.port}",
        "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
    }


async def drain(way: str, road: Road, backlog: Sequence[Face]) -> Drain:
    """Let a backlog drain and measure it."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        async with AsyncExitStack() as stack:
            cloud = MosquittoServer(folder).start()
            stack.callback(cloud.kill)
            proxy = await stack.enter_async_context(Proxy(cloud.port))
            proxy.shape = road.shape
            await proxy.refuse()
            receiver = Receiver(cloud.url)
            await stack.enter_async_context(receiver.link)
            running = asyncio.create_task(receiver.run())
            stack.callback(running.cancel)
            await receiver.link.wait_up()
            link = await stack.enter_async_context(edge_of(way, folder, proxy, backlog))
            await proxy.listen()
            new_s = await _watch(link, receiver, {face.id for face in backlog})
            arrived = sorted(receiver.arrived_s[face.id] for face in backlog)
            seconds = arrived[-1] - arrived[0]
            size_bytes = sum(len(face.image) for face in backlog[1:])
            return Drain((len(backlog) - 1) / seconds, size_bytes / seconds, new_s)


async def _watch(link: Link, receiver: Receiver, backlog: set[str]) -> tuple[float, ...]:
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


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
