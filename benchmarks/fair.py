"""How long a device's faces take while another device floods the same broker and store.

    python -m benchmarks.fair [--rounds 3] [--seconds 10] [--rate 20]

A quiet device sends a few faces a second to a Mosquitto and a store, which writes them into a real S3 server:
alone, and then beside a device that publishes as fast as the broker reads and ignores all answers. A face
that is not receipted in time is sent again, as forward does; one without a receipt at the end counts with its
age.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.report.alone import alone, in_turns
from benchmarks.simulated import new_face
from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.faces import encode_face
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import Source, device_topic
from tests.rigs.flooding import flooding
from tests.rigs.pipeline import median, quantile
from tests.rigs.report.findings import Cell, Figure, Part, Table
from tests.rigs.servers import S3_BUCKET, s3_server
from tests.support import MosquittoServer, S3Server, ServiceProcess, eventually, running_broker

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


@dataclass(frozen=True, slots=True)
class Beside:
    """How long the quiet device's faces took, in milliseconds, and how large the flood was.

    Attributes:
        alone_ms: of each face, without the flood.
        flooded_ms: beside it.
        sent_per_s: messages of the flood that the broker has read, a second.
    """

    alone_ms: Sequence[float]
    flooded_ms: Sequence[float]
    sent_per_s: float

    @property
    def times(self) -> float:
        """The 99th percentile as a multiple of that without the flood."""
        return quantile([*self.flooded_ms], 0.99) / quantile([*self.alone_ms], 0.99)


class Quiet:
    """A device that sends faces at a given rate, as forward does, and notes how long each took."""

    def __init__(self, broker_url: str, rate: float) -> None:
        topics = [device_topic(QUIET.device, "stored")]
        self.link = Link("cloud", Broker(broker_url), identity="quiet", subscriptions=topics)
        self._rate = rate
        self._began_s: dict[str, float] = {}
        self._took_s: dict[str, float] = {}

    def begin(self) -> None:
        """Forget what was measured."""
        self._began_s.clear()
        self._took_s.clear()

    def took_ms(self) -> list[float]:
        """Return the milliseconds that the faces since `begin` took, or their age."""
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


async def _beside(options: argparse.Namespace, flood: Sequence[str], folder: Path, s3: S3Server) -> Beside:
    """Measure the quiet device alone and then beside a flood."""
    async with _broker_of_a_store(folder, s3) as broker:
        quiet = Quiet(broker.url, options.rate)
        async with quiet.link, asyncio.TaskGroup() as tasks:
            await quiet.link.wait_up()
            running = [tasks.create_task(quiet.hear()), tasks.create_task(quiet.send())]
            alone_ms = await _watch(quiet, options.seconds)
            with flooding(broker.port, LOUD, *flood) as sent:
                await eventually(sent)
                at_s, count = time.monotonic(), sent()
                flooded_ms = await _watch(quiet, options.seconds)
                rate = (sent() - count) / (time.monotonic() - at_s)
            for task in running:
                task.cancel()
        return Beside(alone_ms, flooded_ms, rate)


async def _watch(quiet: Quiet, seconds: float) -> list[float]:
    await asyncio.sleep(SETTLE_S)
    quiet.begin()
    await asyncio.sleep(seconds)
    return quiet.took_ms()


@asynccontextmanager
async def _broker_of_a_store(folder: Path, s3: S3Server) -> AsyncIterator[MosquittoServer]:
    with running_broker(folder) as broker:
        url = f"s3://{S3_BUCKET}/{folder.name}"
        settings = {"FACEFERRY_CLOUD_MQTT_URL": broker.url, "FACEFERRY_STORE_URL": url, **s3.environment}
        with ServiceProcess("store", folder, settings) as store:
            await eventually(lambda: store.log.count("mqtt.link_up") == 2, 30)
            yield broker


def _measured(
    options: argparse.Namespace, flood: Sequence[str], place: Path, s3: S3Server, _round: int
) -> Beside:
    return uvloop.run(_beside(options, flood, Path(tempfile.mkdtemp(dir=place)), s3))


def _figures(found: Mapping[str, Sequence[Beside]]) -> Iterator[Figure]:
    """Yield the claim: another device's flood hardly delays a device."""
    for name, rounds in found.items():
        what = f"p99 from publication to receipt beside a flood of {name}, times without"
        yield Figure(what, median([each.times for each in rounds]), "less", MOST_TIMES)


def _table(found: Mapping[str, Sequence[Beside]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            median([quantile([*each.alone_ms], 0.99) for each in rounds]),
            median([quantile([*each.flooded_ms], 0.99) for each in rounds]),
            median([each.sent_per_s for each in rounds]),
        )
        for name, rounds in found.items()
    ]
    columns = ("flood", "alone: p99, ms", "beside: p99, ms", "messages/s that the broker reads")
    return Table("A quiet device beside a flood", columns, tuple(rows))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: how often, how long and how fast."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for how long to measure, alone and beside"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="faces a second of the quiet device")


def measure(options: argparse.Namespace) -> Part:
    """Measure a quiet device beside floods of each kind."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as place, s3_server(Path(place)) as s3:
        ways = {name: partial(_measured, options, flood, Path(place), s3) for name, flood in WAYS.items()}
        found = in_turns(ways, options.rounds)
    title = "Store: a device beside one that floods"
    return Part("fair", title, figures=tuple(_figures(found)), tables=(_table(found),))


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
