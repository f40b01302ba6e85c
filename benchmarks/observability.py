"""What looking on costs: processor time a face, with everything on and with everything off.

    python -m benchmarks.observability [--clip shared/data/video/classroom.mp4] [--runs 5] [--repeats 20]

Off: the four services and both brokers, a recording, a folder. On: besides these the gallery, with a page
open that loads the image of every face that it is told of; each service scraped every 5 s, as by a
Prometheus in a hurry, and asked every 5 s whether it is ready. Both in turn, the same number of times; the
medians are compared. Start-up is left out, for services last; whoever scrapes and looks is left out, for
they are elsewhere. Ends with status 1 where the rise is more than a twentieth.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from services.capture.ffmpeg import find_ffmpeg
from services.up.brokers import free_port
from tests.support import MosquittoServer, ServiceProcess

ASKED_EVERY_S = 5.0
AT_MOST = 0.05
BASE = ("store", "forward", "detect")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: processor seconds of each process, and the faces stored."""

    cpu_s: dict[str, float]
    faces: int

    @property
    def ms_a_face(self) -> float:
        """Processor milliseconds for each face, all processes together."""
        return 1000 * sum(self.cpu_s.values()) / self.faces


async def run_once(clip: Path, *, is_watched: bool) -> Run:
    """Bring one recording's faces into an empty folder; return what it cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            brokers = [MosquittoServer(folder), MosquittoServer(folder)]
            for broker in brokers:
                stack.callback(broker.start().kill)
            settings = _settings(folder, clip, *brokers)
            names = (*BASE, "gallery") if is_watched else BASE
            services = {each: ServiceProcess(each, folder, settings) for each in (*names, "capture")}
            for each in names:
                stack.callback(services[each].start().kill)
                await _ready(services[each].http_port)
            if is_watched:
                await stack.enter_async_context(_watching(services, settings["FACEFERRY_GALLERY_PORT"]))
            pids = {each: services[each].pid for each in names}
            pids |= {f"broker-{number}": broker.pid for number, broker in enumerate(brokers)}
            before_s = {each: _cpu_s(pid) for each, pid in pids.items()}
            stack.callback(services["capture"].start().kill)
            faces = await _play(folder)
            pids["capture"] = services["capture"].pid
            cpu_s = {each: _cpu_s(pid) - before_s.get(each, 0.0) for each, pid in pids.items()}
        return Run(cpu_s, faces)


def _settings(folder: Path, clip: Path, local: MosquittoServer, cloud: MosquittoServer) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": "bench",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
        "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
        "FACEFERRY_CAMERAS": f"front={clip.as_uri()}?paced=1",
        "FACEFERRY_JOURNAL_PATH": str(folder / "journal.jsonl"),
        "FACEFERRY_GALLERY_PORT": str(free_port()),
        "FACEFERRY_LOG_LEVEL": "warning",
    }


async def _ready(port: int) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


async def _play(folder: Path) -> int:
    """Wait until the recording is through and every face of it is stored; return how many there are."""
    journal, store = folder / "journal.jsonl", folder / "faces"
    async with asyncio.timeout(300):
        while not (journal.exists() and '"finished"' in journal.read_text()[-300:]):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.2)
        wanted = _faces_in(journal)
        while len(list(store.rglob("*.jpg"))) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return wanted


def _faces_in(journal: Path) -> int:
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    return len({face for entry in entries for face in entry.get("faces", [])})


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process and of all that it has started."""
    process = psutil.Process(pid)
    times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return ended + sum(each.user + each.system for each in times)


@asynccontextmanager
async def _watching(services: dict[str, ServiceProcess], gallery_port: str) -> AsyncIterator[None]:
    """Scrape, and look at the page, for as long as the context lasts."""
    async with aiohttp.ClientSession() as session:
        is_open = asyncio.Event()
        tasks = [
            asyncio.create_task(_look(session, f"http://127.0.0.1:{gallery_port}", is_open)),
            *(asyncio.create_task(_scrape(session, each.http_port)) for each in services.values()),
        ]
        await is_open.wait()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _scrape(session: aiohttp.ClientSession, port: int) -> None:
    while True:
        for path in ("/metrics", "/readyz"):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    await answer.read()
        await asyncio.sleep(ASKED_EVERY_S)


async def _look(session: aiohttp.ClientSession, url: str, is_open: asyncio.Event) -> None:
    async with session.get(f"{url}/") as page:
        await page.read()
    forever = aiohttp.ClientTimeout(total=None)
    async with session.get(f"{url}/events", timeout=forever) as events:
        is_open.set()
        async for line in events.content:
            if line.startswith(b"data: [") and (faces := json.loads(line[6:])):
                for face in faces:
                    async with session.get(f"{url}/image/{face['key']}") as image:
                        await image.read()


def lengthened(clip: Path, repeats: int, folder: Path) -> Path:
    """Return a recording that plays a clip so many times."""
    long = folder / f"long{clip.suffix}"
    loop = ["-stream_loop", str(repeats - 1), "-i", str(clip)]
    subprocess.run([find_ffmpeg(None), "-v", "error", *loop, "-c", "copy", "-an", str(long)], check=True)
    return long


def report(off: Sequence[Run], on: Sequence[Run]) -> float:
    """Print both; return by which part the cost rises."""
    medians = [statistics.median(run.ms_a_face for run in runs) for runs in (off, on)]
    for name, runs, median in zip(("off", "on"), (off, on), medians, strict=True):
        each = ", ".join(f"{run.ms_a_face:.2f}" for run in runs)
        print(
            f"{name:>4}: {median:.2f} ms of processor time a face (median of {each}), {runs[0].faces} faces"
        )
    part = statistics.median(run.cpu_s["gallery"] for run in on) * 1000 / on[0].faces
    rise = medians[1] / medians[0] - 1
    print(f"rise: {rise:+.1%} (the gallery alone: {part / medians[0]:.1%})")
    return rise


def main() -> int:
    """Measure; return 1 where looking on costs more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    shared = Path(__file__).parents[2] / "shared"
    parser.add_argument("--clip", type=Path, default=shared / "data" / "video" / "classroom.mp4")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20, help="how often the clip is played in a run")
    options = parser.parse_args()
    os.environ.setdefault("FACEFERRY_MODEL_DIR", str(shared / "models"))
    off: list[Run] = []
    on: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        clip = lengthened(options.clip.resolve(), options.repeats, Path(name))
        for _ in range(options.runs):
            off.append(asyncio.run(run_once(clip, is_watched=False)))
            on.append(asyncio.run(run_once(clip, is_watched=True)))
    return int(report(off, on) > AT_MOST)


if __name__ == "__main__":
    raise SystemExit(main())
