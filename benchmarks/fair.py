"""How long a device's faces take while another one floods the same broker and store.

    python -m benchmarks.fair [--rounds 3] [--seconds 10] [--rate 20] [--s3-server PROGRAM]

A quiet device sends a few faces a second, alone and then beside a device that publishes as fast as the broker
reads from it; both in one run, in turns, each on a broker and a store of their own.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from benchmarks.rig import quantile, usage_of
from benchmarks.servers import S3_BUCKET, s3_server
from benchmarks.simulated import new_face
from services.common.faces import encode_face
from services.common.logging import configure_logging
from services.common.message import Message
from services.common.mqtt import Broker, Link, LinkDown
from services.common.receipts import decode_receipt
from services.common.topics import Source, device_topic
from tests.support import MosquittoServer, S3Server, ServiceProcess, eventually

QUIET, LOUD = Source("quiet", "front"), "loud"
MOST_TIMES = 3.0
RESEND_S = 2.0
SETTLE_S = 2.0
WAYS: dict[str, tuple[str, ...]] = {
    "faces of 20 kB, QoS 1": (),
    "faces of 20 kB, QoS 1, 4 connections": ("--connections", "4"),
    "faces of 20 kB, QoS 0": ("--qos", "0"),
    "faces of 500 bytes, QoS 0": ("--qos", "0", "--bytes", "500"),
    "images that are refused, 20 kB, QoS 1": ("--kind", "garbage"),
}
ABOUT = """
A device sends {rate:g} faces of 20 kB a second to a Mosquitto and a store, which writes them into a real S3
server (versitygw); what is not receipted within {resend:g} s is sent again, as forward does. For
{seconds:g} s it is alone; then another device publishes as fast as the broker takes it, whatever anybody
answers; after {settle:g} s the first one is measured for as long again. The time is from the first
publication of a face to its receipt; a face that has none at the end counts with its age. All processes
share this machine's processors, the flood too. The ways take turns, {rounds} times each; medians count.
"""
LIMITS = (
    "All is on one machine, and the flood, Mosquitto, the store and the S3 server share its processors. The"
    " quiet device has sent before the flood began: one of which the store has never heard comes in with the"
    " flood, whose queue in Mosquitto drops what it has no room for. A bound on what one connection may send"
    " belongs before the broker, or in one that has it."
)


@dataclass(frozen=True, slots=True)
class Beside:
    """How long the quiet device's faces took, in milliseconds, and what the flood was.

    Attributes:
        alone_ms: of each face, without the flood.
        flooded_ms: beside it.
        sent_per_s: messages of the flood that the broker has read, a second.
        store_cpu: processors that the store took meanwhile.
        broker_cpu: and the broker.
    """

    alone_ms: Sequence[float]
    flooded_ms: Sequence[float]
    sent_per_s: float
    store_cpu: float
    broker_cpu: float

    @property
    def times(self) -> float:
        """The slowest in a hundred, times that without the flood."""
        return quantile([*self.flooded_ms], 0.99) / quantile([*self.alone_ms], 0.99)


class Quiet:
    """A device that sends as forward does, and knows how long each face took.

    Args:
        broker_url: where to.
        rate: faces a second.
    """

    def __init__(self, broker_url: str, rate: float) -> None:
        self.link = Link(
            "cloud",
            Broker(broker_url),
            identity="quiet",
            subscriptions=[device_topic(QUIET.device, "stored")],
            receive_maximum=256,
        )
        self._rate = rate
        self._began_s: dict[str, float] = {}
        self._took_s: dict[str, float] = {}

    def begin(self) -> None:
        """Forget what was measured."""
        self._began_s.clear()
        self._took_s.clear()

    def took_ms(self) -> list[float]:
        """Return what the faces since `begin` took, or their age."""
        now_s = time.monotonic()
        return [
            1e3 * self._took_s.get(face_id, now_s - began_s) for face_id, began_s in self._began_s.items()
        ]

    async def hear(self) -> None:
        """Note receipts until cancelled."""
        async for delivery in self.link:
            delivery.acknowledge()
            for face_id in decode_receipt(delivery.message).ids & self._began_s.keys():
                self._took_s.setdefault(face_id, time.monotonic() - self._began_s[face_id])

    async def send(self) -> None:
        """Send faces until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(1 << 30):
                face = new_face(QUIET, number, datetime.now(UTC))
                self._began_s[face.id] = time.monotonic()
                tasks.create_task(self._deliver(face.id, encode_face(face, expiry_s=int(RESEND_S))))
                await asyncio.sleep(1 / self._rate)

    async def _deliver(self, face_id: str, message: Message) -> None:
        while face_id in self._began_s and face_id not in self._took_s:
            with contextlib.suppress(LinkDown):
                self.link.publish(message)
            await asyncio.sleep(RESEND_S)


async def beside(options: argparse.Namespace, flood: Sequence[str], folder: Path, s3: S3Server) -> Beside:
    """Measure the quiet device alone and then beside a flood."""
    async with _site(folder, s3) as (broker, store):
        quiet = Quiet(broker.url, options.rate)
        async with quiet.link, asyncio.TaskGroup() as tasks:
            await quiet.link.wait_up()
            running = [tasks.create_task(quiet.hear()), tasks.create_task(quiet.send())]
            alone_ms = await _watch(quiet, options.seconds)
            with _flooding(broker, flood, folder / "sent") as sent:
                before = [usage_of(pid).cpu_s for pid in (store.pid, broker.pid)]
                at_s, count = time.monotonic(), sent()
                flooded_ms = await _watch(quiet, options.seconds)
                took_s = time.monotonic() - at_s
                after = [usage_of(pid).cpu_s for pid in (store.pid, broker.pid)]
                rate = (sent() - count) / took_s
            for task in running:
                task.cancel()
        cpu = [(now - was) / took_s for now, was in zip(after, before, strict=True)]
        return Beside(alone_ms, flooded_ms, rate, *cpu)


async def _watch(quiet: Quiet, seconds: float) -> list[float]:
    await asyncio.sleep(SETTLE_S)
    quiet.begin()
    await asyncio.sleep(seconds)
    return quiet.took_ms()


@asynccontextmanager
async def _site(folder: Path, s3: S3Server) -> AsyncIterator[tuple[MosquittoServer, ServiceProcess]]:
    async with AsyncExitStack() as stack:
        broker = MosquittoServer(folder)
        settings = {
            **s3.environment,
            "FACEFERRY_CLOUD_MQTT_URL": broker.url,
            "FACEFERRY_STORE_URL": f"s3://{S3_BUCKET}/{folder.name}",
        }
        store = ServiceProcess("store", folder, settings)
        stack.callback(broker.start().kill)
        stack.callback(store.start().kill)
        await eventually(lambda: store.log.count("mqtt.link_up") == 2, 30)
        yield broker, store


@contextmanager
def _flooding(broker: MosquittoServer, options: Sequence[str], told: Path) -> Iterator["Sent"]:
    command = [sys.executable, "-m", "tests.flood", str(broker.port), LOUD, *options]
    with told.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
    try:
        sent = Sent(told)
        sent.wait()
        yield sent
    finally:
        process.kill()
        process.wait()


class Sent:
    """How many messages a flood says that it has sent."""

    def __init__(self, told: Path) -> None:
        self._told = told

    def __call__(self) -> int:
        """Return how many."""
        return int((self._told.read_text().split() or ["0"])[-1])

    def wait(self) -> None:
        """Wait until it has sent some."""
        deadline_s = time.monotonic() + 30
        while not self():
            if time.monotonic() > deadline_s:
                raise TimeoutError("the flood has not begun")
            time.sleep(0.05)


async def measure_all(options: argparse.Namespace, place: Path, s3: S3Server) -> dict[str, list[Beside]]:
    """Measure beside each flood, in turns."""
    found: dict[str, list[Beside]] = {name: [] for name in WAYS}
    for number in range(options.rounds):
        for way, (name, flood) in enumerate(WAYS.items()):
            folder = place / f"round-{number}-way-{way}"
            folder.mkdir()
            found[name].append(await beside(options, flood, folder, s3))
            last = found[name][-1]
            print(
                f"{name}: {last.times:.1f} times, {last.sent_per_s:.0f} messages/s",
                file=sys.stderr,
                flush=True,
            )
    return found


def figures(found: Mapping[str, Sequence[Beside]]) -> tuple[Figure, ...]:
    """Return the claim: a device hardly notices that another one floods."""
    return tuple(
        Figure(
            f"p99 from publication to receipt beside a flood of {name}, times without",
            statistics.median(each.times for each in rounds),
            "less",
            MOST_TIMES,
            limits=LIMITS,
        )
        for name, rounds in found.items()
    )


def table(found: Mapping[str, Sequence[Beside]]) -> Table:
    """Return the medians of the rounds."""
    return Table(
        "A quiet device beside a flood",
        ("flood", "alone: p50, ms", "p99, ms", "beside: p50, ms", "p99, ms", "messages/s", "store", "broker"),
        tuple((name, *_medians(rounds)) for name, rounds in found.items()),
        "*messages/s* are those of the flood that the broker has read; *store* and *broker*: processors that"
        " they took meanwhile.",
    )


def _medians(rounds: Sequence[Beside]) -> list[float]:
    rows = [
        (
            *(quantile([*took], share) for took in (each.alone_ms, each.flooded_ms) for share in (0.5, 0.99)),
            each.sent_per_s,
            each.store_cpu,
            each.broker_cpu,
        )
        for each in rounds
    ]
    return [statistics.median(values) for values in zip(*rows, strict=True)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often, how long and how fast."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for how long to measure, alone and beside"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="faces a second of the quiet device")
    parser.add_argument("--s3-server", help="a versitygw program")


def measure(options: argparse.Namespace) -> Part:
    """Measure a quiet device beside floods of each kind."""
    configure_logging("benchmark", "error", "console")
    with (
        tempfile.TemporaryDirectory(prefix="faceferry-") as place,
        s3_server(Path(place), options.s3_server) as s3,
    ):
        if s3 is None:
            raise SystemExit("no S3 server: name a versitygw program with --s3-server")
        found = uvloop.run(measure_all(options, Path(place), s3))
    about = ABOUT.format(
        rate=options.rate,
        resend=RESEND_S,
        seconds=options.seconds,
        settle=SETTLE_S,
        rounds=options.rounds,
    )
    return Part("fair", "Store: a device beside one that floods", about, figures(found), (table(found),))


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
