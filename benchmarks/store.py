"""What storing a face costs: the whole service, broker included, compared with bare calls.

    python -m benchmarks.store [--faces 2000] [--rounds 3] [--concurrency 32]

The same faces of about 20 kB, with the properties that detect gives them, go into a real S3 server
(versitygw, over a folder of this machine). Processor time is that of the client, without the S3 server and
the broker. The service's rate is from publishing the faces to the last receipt.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aioboto3
import uvloop
from aiobotocore.config import AioConfig

from benchmarks.report.alone import alone, in_turns
from benchmarks.simulated import new_face
from services.common.mqtt import Broker, Link
from services.common.storage.objects import StoredObject
from services.common.wire.faces import encode_face
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import Source
from services.store.admission import admit
from tests.rigs.pipeline import median, usage_of
from tests.rigs.report.findings import Figure, Part, Table
from tests.rigs.servers import S3_BUCKET, s3_server
from tests.support import MosquittoServer, S3Server, ServiceProcess

DEVICE = "benchmark"
SERVICE = "store service to S3"
BARE, TUNED = "bare aioboto3 put loop", "bare aioboto3 put loop, without checks and checksums"
LEAST_RATE = 0.85
MOST_FACE_BYTES = 1 << 23


@dataclass(frozen=True, slots=True)
class Cost:
    """What all faces took: seconds of the clock, and seconds of the processor."""

    wall_s: float
    cpu_s: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--faces", type=int, default=2_000, help="faces a round")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")
    parser.add_argument("--concurrency", type=int, default=32, help="writes at a time")


def measure(options: argparse.Namespace) -> Part:
    """Measure every variant of storing faces."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder, s3_server(Path(folder)) as s3:
        os.environ |= s3.environment  # the bare calls run in this process
        ways = dict(_ways(Path(folder), s3, options.concurrency, _messages(options.faces)))
        found = in_turns(ways, options.rounds)
    rates = {way: options.faces / median([cost.wall_s for cost in costs]) for way, costs in found.items()}
    cpu_s = {way: median([cost.cpu_s for cost in costs]) for way, costs in found.items()}
    rows = tuple((way, rates[way], cpu_s[way] * 1e3 / options.faces) for way in found)
    tables = (Table("What each way did", ("way", "faces/s", "CPU ms a face"), rows),)
    figures: list[Figure] = []
    for bare in (BARE, TUNED):
        rate, cpu = rates[SERVICE] / rates[bare], cpu_s[SERVICE] / cpu_s[bare]
        figures.append(Figure(f"rate of {SERVICE} against {bare}", rate, "more", LEAST_RATE))
        figures.append(Figure(f"CPU a face of {SERVICE} against {bare}", cpu, "less"))
    return Part("store", "Store: faces of 20 kB into a real S3 server", "", tuple(figures), tables)


def _messages(count: int) -> list[Message]:
    """Return messages with distinct faces, as forward sends them."""
    source, start = Source(DEVICE, "front"), datetime.now(UTC)
    times = (start + timedelta(microseconds=number) for number in range(count))
    return [encode_face(new_face(source, number, time)) for number, time in enumerate(times)]


def _ways(
    place: Path, s3: S3Server, concurrency: int, messages: Sequence[Message]
) -> Iterator[tuple[str, Callable[[int], Cost]]]:
    """Yield the variants of storing faces, each in a place of its own."""
    tuned = AioConfig(parameter_validation=False, request_checksum_calculation="when_required")
    ways: dict[str, Callable[[str], Coroutine[Any, Any, Cost]]] = {
        SERVICE: lambda name: _service(messages, f"s3://{S3_BUCKET}/{name}", place, concurrency),
        BARE: lambda name: _aioboto3(messages, name, s3.url, concurrency, AioConfig()),
        TUNED: lambda name: _aioboto3(messages, name, s3.url, concurrency, tuned),
    }
    for name, way in ways.items():
        yield name, partial(_run, way, name.replace(" ", "-"))


def _run(way: Callable[[str], Coroutine[Any, Any, Cost]], name: str, turn: int) -> Cost:
    return uvloop.run(way(f"{turn}-{name}"))


async def _service(messages: Sequence[Message], store_url: str, place: Path, concurrency: int) -> Cost:
    broker = MosquittoServer(place).start()
    settings = {
        "FACEFERRY_CLOUD_MQTT_URL": broker.url,
        "FACEFERRY_STORE_URL": store_url,
        "FACEFERRY_STORE_CONCURRENCY": str(concurrency),
    }
    topics = [f"faceferry/{DEVICE}/stored"]
    try:
        async with (
            asyncio.timeout(600),  # a service that has died would be waited for without end
            Link("cloud", Broker(broker.url), identity="benchmark", subscriptions=topics) as link,
        ):
            with ServiceProcess("store", place, settings) as service:
                await link.wait_up()
                await _receipted(link, messages[:1])  # it is up, and has written once
                before_s, started_s = usage_of(service.pid).cpu_s, time.perf_counter()
                await _receipted(link, messages[1:])
                return Cost(time.perf_counter() - started_s, usage_of(service.pid).cpu_s - before_s)
    finally:
        broker.kill()


async def _receipted(link: Link, messages: Sequence[Message]) -> None:
    """Publish faces and return when all are receipted; send those without a receipt again each second."""
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


async def _aioboto3(
    messages: Sequence[Message], prefix: str, url: str, concurrency: int, config: AioConfig
) -> Cost:
    items = [admit(message, datetime.now(UTC), MOST_FACE_BYTES).item for message in messages]
    remaining = iter(items[1:])
    client = aioboto3.Session().client("s3", endpoint_url=url, region_name="us-east-1", config=config)
    async with client as s3:

        async def put(item: StoredObject) -> None:
            await s3.put_object(
                Bucket=S3_BUCKET,
                Key=f"{prefix}/{item.key}",
                Body=item.body,
                ContentType=item.content_type,
                Metadata=dict(item.metadata),
            )

        async def work() -> None:
            for item in remaining:
                await put(item)

        await put(items[0])
        before_s, started_s = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work())
        return Cost(time.perf_counter() - started_s, time.process_time() - before_s)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
