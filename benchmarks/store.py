"""What storing a face costs: the store's writer, the whole service, and bare calls, side by side.

    python -m benchmarks.store [--faces 2000] [--rounds 3] [--concurrency 32] [--s3-server PROGRAM]

The same faces of about 20 kB, with the properties that detect gives them, go into a real S3 server
(versitygw, over a folder of this machine) and into a folder. The ways take turns, and the median of the
rounds counts. Processor time is that of the client, without the S3 server. Bare file writes are what the
original homework's mounted bucket could reach at the very best; nothing of theirs is durable.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aioboto3
import psutil
import uvloop
from aiobotocore.config import AioConfig

from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from benchmarks.servers import S3_BUCKET, s3_server
from benchmarks.simulated import new_face
from services.common.errors import Refused
from services.common.faces import encode_face
from services.common.logging import configure_logging
from services.common.message import Message
from services.common.mqtt import Broker, Link
from services.common.receipts import decode_receipt
from services.common.storage.backends import open_store
from services.common.storage.objects import StoredObject
from services.common.storage.settings import ObjectStoreSettings
from services.common.topics import Source
from services.store.admission import Admitted, admit
from services.store.availability import Availability
from services.store.waiting import Waiting
from services.store.writer import Writer
from tests.support import MosquittoServer, S3Server

DEVICE = "benchmark"
WRITER_S3, WRITER_FOLDER = "store's writer to S3", "store's writer to a folder"
SERVICE_S3, SERVICE_FOLDER = (
    "store service to S3, broker included",
    "store service to a folder, broker included",
)
BARE_AIOBOTO3, BARE_TUNED = "bare aioboto3 put loop", "bare aioboto3 put loop, without checks and checksums"
FILES, FILES_SYNCED = "bare file writes", "bare file writes, each fsynced"
PAIRS = ((WRITER_S3, BARE_AIOBOTO3), (SERVICE_S3, BARE_AIOBOTO3), (SERVICE_S3, BARE_TUNED))
FOLDER_PAIRS = ((WRITER_FOLDER, FILES_SYNCED), (SERVICE_FOLDER, FILES_SYNCED))
ABOUT = """\
{faces} faces of about 20 kB, distinct, with the properties that detect gives them, into a real S3 server
(versitygw, over a folder of this machine) and into a folder, {concurrency} at a time. The ways take
turns, and the median of {rounds} rounds counts. Processor time is that of the client: the store's own
process, without the S3 server and the brokers. The service's rate is from publishing the faces over MQTT
to the last receipt. Bare file writes go one after the other, durable only where each is fsynced; the
store fsyncs the properties beside each face and their folder as well."""
LIMITS = """\
The S3 server runs on the same machine and takes processor time from whoever writes to it; the whole
service shares it with the broker and with the publisher of the faces besides."""

Way = Callable[[Sequence[Message], str], Awaitable["Cost"]]
"""Stores the faces of these messages under a prefix of its own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took: seconds on the clock, and seconds of the processor."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one way did: medians over the rounds."""

    faces_per_s: float
    cpu_ms_per_face: float


Results = dict[str, Result]
"""By way."""


class Ways:
    """The ways of storing faces, all into the servers of one place.

    Args:
        place: a folder for everything.
        s3: a running server.
        concurrency: writes at a time.
    """

    def __init__(self, place: Path, s3: S3Server, concurrency: int) -> None:
        self._place = place
        self._s3 = s3
        self._concurrency = concurrency
        self.all: dict[str, Way] = {
            WRITER_S3: lambda messages, name: self._writer(messages, f"s3://{S3_BUCKET}/{name}"),
            SERVICE_S3: lambda messages, name: self._service(messages, f"s3://{S3_BUCKET}/{name}"),
            BARE_AIOBOTO3: lambda messages, name: self._aioboto3(messages, name, AioConfig()),
            BARE_TUNED: lambda messages, name: self._aioboto3(messages, name, _tuned()),
            WRITER_FOLDER: lambda messages, name: self._writer(messages, (place / name).as_uri()),
            SERVICE_FOLDER: lambda messages, name: self._service(messages, (place / name).as_uri()),
            FILES: lambda messages, name: self._files(messages, name, is_synced=False),
            FILES_SYNCED: lambda messages, name: self._files(messages, name, is_synced=True),
        }

    async def _writer(self, messages: Sequence[Message], store_url: str) -> Cost:
        stored = asyncio.Event()
        waiting = len(messages)

        def on_stored() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                stored.set()

        settings = ObjectStoreSettings(store_url=store_url, s3_endpoint_url=self._s3.url)
        async with open_store(settings) as objects:
            await objects.verify()
            writer = Writer(
                objects,
                Availability(),
                Waiting(sys.maxsize, sys.maxsize),
                concurrency=self._concurrency,
            )
            started = _now()
            async with writer:
                for message in messages:
                    writer.take(_Taken(message, on_stored))
                await stored.wait()
            return _since(started)

    async def _service(self, messages: Sequence[Message], store_url: str) -> Cost:
        broker = MosquittoServer(self._place)
        topic = f"faceferry/{DEVICE}/stored"
        try:
            broker.start()
            async with (
                asyncio.timeout(600),  # a service that has died would be waited for without end
                Link("cloud", Broker(broker.url), identity="benchmark", subscriptions=[topic]) as link,
                self._running(broker.url, store_url) as service,
            ):
                await link.wait_up()
                await _receipted(link, messages[:1])  # it is up, and has written once
                before = service.cpu_times()
                started = time.perf_counter()
                await _receipted(link, messages[1:])
                after = service.cpu_times()
                cpu_s = after.user + after.system - before.user - before.system
                return Cost(time.perf_counter() - started, cpu_s)
        finally:
            broker.kill()

    @asynccontextmanager
    async def _running(self, broker_url: str, store_url: str) -> AsyncIterator[psutil.Process]:
        environment = {
            **os.environ,
            "FACEFERRY_CLOUD_MQTT_URL": broker_url,
            "FACEFERRY_STORE_URL": store_url,
            "FACEFERRY_STORE_CONCURRENCY": str(self._concurrency),
        }
        with (self._place / "service.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.store", env=environment, stderr=log
            )
        try:
            yield psutil.Process(process.pid)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _aioboto3(self, messages: Sequence[Message], prefix: str, config: AioConfig) -> Cost:
        items = _objects(messages)
        client = aioboto3.Session().client(
            "s3", endpoint_url=self._s3.url, region_name="us-east-1", config=config
        )
        async with client as s3:

            async def put(item: StoredObject) -> None:
                await s3.put_object(
                    Bucket=S3_BUCKET,
                    Key=f"{prefix}/{item.key}",
                    Body=item.body,
                    ContentType=item.content_type,
                    Metadata=dict(item.metadata),
                )

            await put(items[0])
            started = _now()
            await _concurrently(put, items[1:], self._concurrency)
            return _since(started)

    async def _files(self, messages: Sequence[Message], name: str, *, is_synced: bool) -> Cost:
        items = _objects(messages)
        for folder in {(self._place / name / item.key).parent for item in items}:
            folder.mkdir(parents=True, exist_ok=True)
        started = _now()
        for item in items:
            with (self._place / name / item.key).open("wb") as file:
                file.write(item.body)
                if is_synced:
                    file.flush()
                    os.fsync(file.fileno())
        return _since(started)


class _Taken:
    """A face that is handed to the writer without a broker."""

    device = DEVICE

    def __init__(self, message: Message, on_stored: Callable[[], None]) -> None:
        self._message = message
        self._on_stored = on_stored
        self.size_bytes = len(message.payload)

    def check(self) -> Admitted:
        return admit(self._message, datetime.now(UTC), 1 << 23)

    def stored(self, admitted: Admitted) -> None:  # noqa: ARG002 - it is the one
        self._on_stored()

    def refused(self, refusal: Refused) -> None:
        raise refusal

    def ignored(self) -> None:
        raise RuntimeError("there was no room")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what can be chosen here."""
    parser.add_argument("--faces", type=int, default=2_000, help="faces a round")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")
    parser.add_argument("--concurrency", type=int, default=32, help="writes at a time")
    parser.add_argument("--s3-server", help="a versitygw program")


def measure(options: argparse.Namespace) -> Part:
    """Measure every way of storing faces."""
    configure_logging("benchmark", "warning")
    with (
        tempfile.TemporaryDirectory(prefix="faceferry-benchmark-") as folder,
        s3_server(Path(folder), options.s3_server) as s3,
    ):
        if s3 is None:
            raise SystemExit("no S3 server: name a versitygw program with --s3-server")
        os.environ |= s3.environment  # the writer and the bare calls run in this process
        ways = Ways(Path(folder), s3, options.concurrency)
        results = uvloop.run(_compare(ways.all, _messages(options.faces), options.rounds))
    about = ABOUT.format(faces=options.faces, concurrency=options.concurrency, rounds=options.rounds)
    return Part(
        "store",
        "Store: faces of 20 kB into a real S3 server",
        about,
        figures=tuple(_figures(results)),
        tables=(_table(results),),
    )


def _messages(count: int) -> list[Message]:
    """Return messages with distinct faces, as forward sends them."""
    source, start = Source(DEVICE, "front"), datetime.now(UTC)
    return [
        encode_face(new_face(source, number, start + timedelta(microseconds=number)))
        for number in range(count)
    ]


def _objects(messages: Sequence[Message]) -> list[StoredObject]:
    return [admit(message, datetime.now(UTC), 1 << 23).item for message in messages]


def _tuned() -> AioConfig:
    return AioConfig(parameter_validation=False, request_checksum_calculation="when_required")


async def _concurrently(
    put: Callable[[StoredObject], Awaitable[None]], items: Sequence[StoredObject], concurrency: int
) -> None:
    remaining = iter(items)

    async def work() -> None:
        for item in remaining:
            await put(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(work())


async def _receipted(link: Link, messages: Sequence[Message]) -> None:
    """Publish faces and return when all are receipted; what stays unanswered for a second is sent again."""
    waiting = {dict(message.attributes)["id"]: message for message in messages}
    while waiting:
        for message in waiting.values():
            link.publish(message)
        try:
            while waiting:
                delivery = await asyncio.wait_for(anext(link), 1.0)
                delivery.acknowledge()
                for face_id in decode_receipt(delivery.message).ids:
                    waiting.pop(face_id, None)
        except TimeoutError:
            pass


async def _compare(ways: dict[str, Way], messages: Sequence[Message], rounds: int) -> Results:
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for turn in range(rounds):
        for number, (name, way) in enumerate(ways.items()):
            costs[name].append(await way(messages, f"way-{number}-round-{turn}"))
    return {name: _result(found, len(messages)) for name, found in costs.items()}


def _result(costs: Sequence[Cost], faces: int) -> Result:
    wall_s = statistics.median(cost.wall_s for cost in costs)
    cpu_s = statistics.median(cost.cpu_s for cost in costs)
    return Result(faces / wall_s, cpu_s / faces * 1000)


def _figures(results: Results) -> Iterator[Figure]:
    for way, bare in PAIRS:
        ratio = results[way].faces_per_s / results[bare].faces_per_s
        yield Figure(f"rate of {way} against {bare}", ratio, "more", 0.85, limits=LIMITS)
    for way, bare in (*PAIRS, *FOLDER_PAIRS):
        ratio = results[way].cpu_ms_per_face / results[bare].cpu_ms_per_face
        yield Figure(f"CPU a face of {way} against {bare}", ratio, "less")


def _table(results: Results) -> Table:
    rows = tuple((way, result.faces_per_s, result.cpu_ms_per_face) for way, result in results.items())
    return Table("What each way did", ("way", "faces/s", "CPU ms a face"), rows)


def _now() -> Cost:
    return Cost(time.perf_counter(), time.process_time())


def _since(started: Cost) -> Cost:
    now = _now()
    return Cost(now.wall_s - started.wall_s, now.cpu_s - started.cpu_s)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
