"""What cameras keep of their rate while another one sends pictures that mean harm.

    python -m benchmarks.bombs [--cameras 3] [--fps 5] [--seconds 6] [--rounds 3]

A real detect on a real Mosquitto. Its cameras send frames of a real clip, at most four of each unanswered, as
capture does. The attacker keeps to no such rule. Before each attack the same is measured without, and the
median of the rounds' ratios counts.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.clips import VIDEOS
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from services.common.faces import decode_face
from services.common.frames import Done, Frame, decode_done, encode_frame
from services.common.logging import configure_logging
from services.common.mqtt import Broker, Link
from services.common.receipts import encode_taken
from services.common.topics import Source
from tests import bombs
from tests.detect_clips import clip_jpegs
from tests.support import SHARED, ServiceProcess, eventually, running_broker

DEVICE = "benchmark"
IN_FLIGHT, ANSWER_S, ATTACK_EVERY_S, SETTLING_S = 4, 2.0, 0.05, 2.0
LEAST_KEPT = 0.9
_HALVED = (0x22, 0x11, 0x11)
ATTACKS = {
    "a thousand scans of 64 megapixels": bombs.progressive(8000, 8000, 1_000, [0x11]),
    "coefficients of 64 megapixels": bombs.progressive(8000, 8000, 2),
    "50 scans of 12 megapixels, which is allowed": bombs.progressive(4000, 3000, 50, _HALVED),
    "16 megapixels, which is light": bombs.flat(4608, 3456),
    "4K in ten scans, which is light": bombs.progressive(3840, 2160, 10, _HALVED),
}
ABOUT = """\
{cameras} cameras of {fps:g} frames a second each, of a clip with a face in each frame, on a real detect with
the shipped settings and a real Mosquitto. An attacker publishes a picture every {every_ms:.0f} ms as another
camera of the same device, whatever becomes of it. Before each attack the same is measured without it,
{seconds:g} s each, and of {rounds} rounds the median ratio counts. The rate is that of frames that were
looked at to the end. Resident memory is the most of detect and of the process that decodes heavy pictures
for it."""


@dataclass(slots=True)
class Camera:
    """Sends frames at a rate, and notes what becomes of them."""

    source: Source
    link: Link
    unanswered: dict[int, float] = field(default_factory=dict)
    looked_at: int = 0
    sequence: int = 0

    def send(self, jpeg: bytes, now_s: float) -> None:
        """Send a frame if the camera may."""
        self.unanswered = {n: at_s for n, at_s in self.unanswered.items() if now_s - at_s < ANSWER_S}
        if len(self.unanswered) < IN_FLIGHT:
            self.sequence += 1
            self.unanswered[self.sequence] = now_s
            self.link.publish(encode_frame(Frame(self.source, self.sequence, datetime.now(UTC), jpeg)))

    def take(self, done: Done) -> None:
        """Note an answer."""
        self.unanswered.pop(done.sequence, None)
        self.looked_at += done.dropped is None


@dataclass(frozen=True, slots=True)
class Round:
    """Frames a second that all cameras together had looked at, and the most memory of detect, in MB."""

    calm: float
    attacked: float
    resident_mb: float

    @property
    def kept(self) -> float:
        """The part of the rate that is kept under attack."""
        return self.attacked / self.calm if self.calm else 0.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many cameras, how fast and for how long."""
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--fps", type=float, default=5.0, help="of each camera")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")


def measure(options: argparse.Namespace) -> Part:
    """Measure calm and all attacks."""
    configure_logging("benchmark", "error", "console")
    found = asyncio.run(_measure(options))
    figures = tuple(
        Figure(
            f"rate kept under attack: {name}",
            statistics.median(one.kept for one in rounds),
            "more",
            LEAST_KEPT,
        )
        for name, rounds in found.items()
    )
    about = ABOUT.format(
        cameras=options.cameras,
        fps=options.fps,
        seconds=options.seconds,
        rounds=options.rounds,
        every_ms=ATTACK_EVERY_S * 1000,
    )
    return Part("bombs", "Pictures that mean harm", about, figures, (_table(found),))


async def _measure(options: argparse.Namespace) -> Mapping[str, list[Round]]:
    found: dict[str, list[Round]] = {name: [] for name in ATTACKS}
    models = os.environ.get("FACEFERRY_MODEL_DIR") or str(SHARED / "models")
    with (
        tempfile.TemporaryDirectory(prefix="faceferry-benchmark-") as folder,
        running_broker(Path(folder)) as broker,
    ):
        environment = {
            "FACEFERRY_DEVICE": DEVICE,
            "FACEFERRY_LOCAL_MQTT_URL": broker.url,
            "FACEFERRY_MODEL_DIR": models,
        }
        detect = ServiceProcess("detect", Path(folder), environment).start()
        try:
            async with _porch(broker.url, options.cameras) as porch:
                await eventually(lambda: "mqtt.link_up" in detect.log, 60)
                for _ in range(options.rounds):
                    for name, jpeg in ATTACKS.items():
                        found[name].append(await _round(porch, jpeg, detect, options))
        finally:
            detect.kill()
    return found


@dataclass(frozen=True, slots=True)
class Porch:
    """All cameras, on one link."""

    link: Link
    cameras: Mapping[str, Camera]

    @property
    def looked_at(self) -> int:
        """Frames that were looked at to the end, of all of them."""
        return sum(camera.looked_at for camera in self.cameras.values())

    async def listen(self) -> None:
        """Note answers, and receipt faces as forward does."""
        async for delivery in self.link:
            delivery.acknowledge()
            if delivery.message.topic.endswith("/face"):
                self.link.publish(encode_taken(DEVICE, [decode_face(delivery.message).id]))
                continue
            done = decode_done(delivery.message)
            if done.source.camera in self.cameras:
                self.cameras[done.source.camera].take(done)

    async def run(self, fps: float, seconds: float, detect: ServiceProcess | None = None) -> float:
        """Have the cameras send for so long; return the most memory of detect meanwhile, in MB."""
        loop, jpegs = asyncio.get_running_loop(), clip_jpegs(VIDEOS / "book.mkv")
        due_s, most = loop.time(), 0.0
        until_s = due_s + seconds
        while due_s < until_s:
            for number, camera in enumerate(self.cameras.values()):
                camera.send(jpegs[(camera.sequence + 10 * number) % len(jpegs)], loop.time())
            if detect is not None:
                most = max(most, _resident_mb(detect))
            due_s += 1 / fps
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        return most


@contextlib.asynccontextmanager
async def _porch(url: str, count: int) -> AsyncIterator[Porch]:
    filters = [f"faceferry/{DEVICE}/+/done", f"faceferry/{DEVICE}/+/face"]
    link = Link("local", Broker(url), identity="cameras", subscriptions=filters)
    names = [f"camera{number}" for number in range(count)]
    porch = Porch(link, {name: Camera(Source(DEVICE, name), link) for name in names})
    async with link:
        await link.wait_up()
        listening = asyncio.create_task(porch.listen())
        yield porch
        listening.cancel()


async def _round(porch: Porch, attack: bytes, detect: ServiceProcess, options: argparse.Namespace) -> Round:
    """Let the cameras run for a while, alone and beside an attack."""
    calm, _ = await _rate(porch, detect, options)
    attacking = asyncio.create_task(_attack(porch.link, attack))
    attacked, resident_mb = await _rate(porch, detect, options)
    attacking.cancel()
    return Round(calm, attacked, resident_mb)


async def _rate(porch: Porch, detect: ServiceProcess, options: argparse.Namespace) -> tuple[float, float]:
    """Return the frames a second, and the memory; what was before is over by then."""
    await porch.run(options.fps, SETTLING_S)
    before, began_s = porch.looked_at, time.monotonic()
    resident_mb = await porch.run(options.fps, options.seconds, detect)
    return (porch.looked_at - before) / (time.monotonic() - began_s), resident_mb


async def _attack(link: Link, jpeg: bytes) -> None:
    sequence = 0
    while jpeg:
        sequence += 1
        link.publish(encode_frame(Frame(Source(DEVICE, "attacker"), sequence, datetime.now(UTC), jpeg)))
        await asyncio.sleep(ATTACK_EVERY_S)


def _resident_mb(detect: ServiceProcess) -> float:
    whole = psutil.Process(detect.pid)
    total = 0
    for one in [whole, *whole.children()]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def _table(found: Mapping[str, list[Round]]) -> Table:
    rows = tuple(
        (
            name,
            statistics.median(one.calm for one in rounds),
            statistics.median(one.attacked for one in rounds),
            max(one.resident_mb for one in rounds),
        )
        for name, rounds in found.items()
    )
    return Table("Attacks", ("attack", "frames/s before", "frames/s meanwhile", "resident MB, most"), rows)


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
