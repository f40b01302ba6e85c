"""How fast a backlog drains after an outage: forward and Mosquitto's own bridge, side by side.

    python -m benchmarks.forward [--rounds 3] [--seconds 10] [--faces 10000] [--shapes 10/20,100/200]
        [--json FILE] [--markdown FILE]

Faces of 20 kB wait at the edge until the link comes up: on disk for forward, in the broker's memory for the
bridge. Then the receiver, a bare subscriber that receipts in both cases, counts what comes in. The link is a
proxy with a capacity, a round trip and small buffers, or without any of these. The bridge speaks MQTT 5, once
with Mosquitto's default window of 20 messages and once with 1,000, all that the cloud broker takes; in both
its queue is unlimited, for with the default queue it would drop all but 1,000 faces. The rate is that of the
images alone, from the first face to the last, the start included. While the backlog drains, new faces are
published; how long they take to the receiver is the last columns. The ways take turns, and medians count.
Ends with status 1 if a claim does not hold.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from services.common.batches import Batch
from services.common.faces import Face, encode_face
from services.common.logging import configure_logging
from services.common.mqtt import Broker, Link, LinkDown
from services.common.receipts import MAX_IDS, encode_stored
from services.forward.spool import Spool
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
LEAST_OF_CAPACITY = 0.9
LEAST_OF_BRIDGE = 0.2
MOST_NEW_FACE_S = 2.0
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
            spool = Spool(_made(folder / "spool"), 8 * 1024 * 1024)
            for start in range(0, len(backlog), 64):
                chunk = enumerate(backlog[start : start + 64], start + 1)
                spool.write([SpooledFace(n, face.id, encode_face(face)) for n, face in chunk], [], {})
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

    def acknowledged() -> None:
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


async def measure(roads: Sequence[Road], rounds: int, seconds: float, faces: int) -> list[dict[str, object]]:
    """Drain on every road in every way, in turns; return one row for each road and way."""
    found: dict[tuple[Road, str], list[Drain]] = defaultdict(list)
    counts = {road: int(road.bytes_per_s * seconds / FACE_BYTES) or faces for road in roads}
    backlog = [known_face(0, number, FACE_BYTES) for number in range(max(counts.values()))]
    for _ in range(rounds):
        for road in roads:
            for way in WAYS:
                done = await drain(way, road, backlog[: counts[road]])
                found[road, way].append(done)
                print(f"{road}: {way}: {done.bytes_per_s / 1e6:.2f} MB/s", file=sys.stderr)
    return [_row(road, way, found[road, way]) for road in roads for way in WAYS]


def _row(road: Road, way: str, drains: Sequence[Drain]) -> dict[str, object]:
    rate = statistics.median(each.bytes_per_s for each in drains)
    new_s = [took_s for each in drains for took_s in each.new_face_s]
    return {
        "road": str(road),
        **asdict(road),
        "way": way,
        "faces_per_s": statistics.median(each.faces_per_s for each in drains),
        "bytes_per_s": rate,
        "of_capacity": rate / road.bytes_per_s if road.megabits_s else None,
        "new_face_median_s": statistics.median(new_s) if new_s else None,
        "new_face_most_s": max(new_s, default=None),
    }


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """Return the rows as a table."""
    lines = [
        "| link | way | faces/s | of its capacity | new face: median | longest |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        share = f"{row['of_capacity']:.3f}" if row["of_capacity"] is not None else ""
        new = [
            f"{row[name]:.2f} s" if row[name] is not None else ""
            for name in ("new_face_median_s", "new_face_most_s")
        ]
        lines.append(
            f"| {row['road']} | {row['way']} | {row['faces_per_s']:.0f} | {share} | {new[0]} | {new[1]} |"
        )
    return "\n".join(lines) + "\n"


def broken_claims(rows: Sequence[dict[str, object]]) -> list[str]:
    """Return what does not hold."""
    broken = []
    bridge = max((float(str(row["bytes_per_s"])) for row in rows if row["way"] != OURS), default=0.0)
    for row in rows:
        if row["way"] != OURS:
            continue
        share = row["of_capacity"]
        if isinstance(share, float) and share < LEAST_OF_CAPACITY:
            broken.append(f"{row['road']}: {share:.3f} of the capacity")
        if share is None and float(str(row["bytes_per_s"])) < LEAST_OF_BRIDGE * bridge:
            broken.append(
                f"{row['road']}: {float(str(row['bytes_per_s'])) / bridge:.3f} of the bridge's rate"
            )
        longest_s = row["new_face_most_s"]
        if isinstance(longest_s, float) and longest_s > MOST_NEW_FACE_S:
            broken.append(f"{row['road']}: a new face took {longest_s:.2f} s")
    return broken


def parse_roads(text: str) -> list[Road]:
    """Read `0/0,10/20`: megabits a second and round trip in milliseconds; 0/0 is bare loopback."""
    return [Road(*map(int, part.split("/"))) for part in text.split(",")]


def main() -> int:
    """Run the benchmark; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long a full link has work")
    parser.add_argument("--faces", type=int, default=10_000, help="the backlog on bare loopback")
    parser.add_argument("--shapes", type=parse_roads, default="0/0,10/20,10/200,100/20,100/200")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="and as a table here")
    options = parser.parse_args()
    configure_logging("benchmark", "error", "console")
    rows = uvloop.run(measure(options.shapes, options.rounds, options.seconds, options.faces))
    print(as_markdown(rows))
    if options.markdown:
        options.markdown.write_text(as_markdown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    for claim in (broken := broken_claims(rows)):
        print(f"does not hold: {claim}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
