"""What looking on costs: processor time a face, with everything on and with everything off.

    python -m benchmarks.observability [--clip shared/data/video/classroom.mp4] [--runs 5] [--repeats 20]

Off: the four services and both brokers, a recording, a folder. On: besides these the gallery, with a page
open that loads the image of every face that it is told of; each service scraped every 5 s, as by a
Prometheus in a hurry, and asked every 5 s whether it is ready. Start-up is left out, for services last;
whoever scrapes and looks is left out, for they are elsewhere.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import aiohttp

from benchmarks.clips import FOUR_FACES, VIDEOS
from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Table
from benchmarks.rig import usage_of
from services.capture.ffmpeg import find_ffmpeg
from services.up.brokers import free_port
from tests.support import SHARED, MosquittoServer, ServiceProcess

ASKED_EVERY_S = 5.0
MOST_TIMES_OFF = 1.05
BASE = ("store", "forward", "detect")
ABOUT = """
{clip}, {repeats} times over, with {faces} faces in all, through the four services and both brokers into a
folder; {runs} times with nobody looking and {runs} times, in turns, with everything on: the gallery, with a
page open that loads the image of every face, and each service scraped, and asked whether it is ready, every
5 s. The figures are processor milliseconds a face, of all processes together; medians. Start-up is left out,
for services last, and so is whoever scrapes and looks, for they are elsewhere.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: processor seconds of each process, and the faces stored."""

    cpu_s: dict[str, float]
    faces: int

    @property
    def ms_a_face(self) -> float:
        """Processor milliseconds for each face, all processes together."""
        return 1000 * sum(self.cpu_s.values()) / self.faces


async def run_once(clip: Path, *, is_watched: bool, more: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Bring one recording's faces into an empty folder; return what it cost.

    Args:
        clip: the recording.
        is_watched: whether the gallery is there and everything is looked at.
        more: further settings of all services.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            brokers = [MosquittoServer(folder), MosquittoServer(folder)]
            for broker in brokers:
                stack.callback(broker.start().kill)
            settings = {**_settings(folder, clip, *brokers), **more}
            names = (*BASE, "gallery") if is_watched else BASE
            services = {each: ServiceProcess(each, folder, settings) for each in (*names, "capture")}
            for each in names:
                stack.callback(services[each].start().kill)
                await _ready(services[each].http_port)
            if is_watched:
                await stack.enter_async_context(_watching(services, settings["FACEFERRY_GALLERY_PORT"]))
            pids = {each: services[each].pid for each in names}
            pids |= {
                f"{name} broker": broker.pid for name, broker in zip(("local", "cloud"), brokers, strict=True)
            }
            before_s = {each: usage_of(pid).cpu_s for each, pid in pids.items()}
            stack.callback(services["capture"].start().kill)
            await _begun(folder)
            pids["capture"] = services["capture"].pid
            before_s["capture"] = usage_of(pids["capture"]).cpu_s
            faces = await _play(folder)
            cpu_s = {each: usage_of(pid).cpu_s - before_s[each] for each, pid in pids.items()}
        return Run(cpu_s, faces)


def _settings(folder: Path, clip: Path, local: MosquittoServer, cloud: MosquittoServer) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": "bench",
        "FACEFERRY_KEEP": "every",
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


async def _begun(folder: Path) -> None:
    """Wait until capture knows its recording, and plays: what it took until then is start-up."""
    journal = folder / "journal.jsonl"
    async with asyncio.timeout(60):
        while not (journal.exists() and journal.stat().st_size):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.005)


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


def play_in_turns(clip: Path, repeats: int, runs: int) -> tuple[list[Run], list[Run]]:
    """Return the runs with everything off, and with everything on."""
    off: list[Run] = []
    on: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        long = lengthened(clip.resolve(), repeats, Path(name))
        for _ in range(runs):
            off.append(asyncio.run(run_once(long, is_watched=False)))
            on.append(asyncio.run(run_once(long, is_watched=True)))
    return off, on


def table(off: Sequence[Run], on: Sequence[Run]) -> Table:
    """Return what each process has taken, and all together."""
    return Table(
        "Processor time a face",
        ("process", "off, ms", "on, ms"),
        (
            *((name, _ms_a_face(off, name), _ms_a_face(on, name)) for name in sorted(on[0].cpu_s)),
            ("all together", _all_ms_a_face(off), _all_ms_a_face(on)),
            ("the least of all runs", *(min(run.ms_a_face for run in runs) for runs in (off, on))),
            ("the most of all runs", *(max(run.ms_a_face for run in runs) for runs in (off, on))),
        ),
    )


def rise(off: Sequence[Run], on: Sequence[Run]) -> Figure:
    """Return by how much the cost rises."""
    gallery = statistics.median(1000 * run.cpu_s["gallery"] / run.faces for run in on)
    return Figure(
        "CPU a face with everything on, times that with everything off",
        _all_ms_a_face(on) / _all_ms_a_face(off),
        "less",
        MOST_TIMES_OFF,
        limits=f"The gallery, which reads and hands out each face's image, takes"
        f" {gallery / _all_ms_a_face(off):.1%} of what everything else takes.",
    )


def _all_ms_a_face(runs: Sequence[Run]) -> float:
    return statistics.median(run.ms_a_face for run in runs)


def _ms_a_face(runs: Sequence[Run], name: str) -> Cell:
    if name not in runs[0].cpu_s:
        return None
    return statistics.median(1000 * run.cpu_s[name] / run.faces for run in runs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is played, and how often."""
    parser.add_argument("--clip", type=Path, default=VIDEOS / FOUR_FACES[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=20, help="how often the clip is played in a run")


def measure(options: argparse.Namespace) -> Part:
    """Play the clip with everything off and on."""
    os.environ.setdefault("FACEFERRY_MODEL_DIR", str(SHARED / "models"))
    off, on = play_in_turns(options.clip, options.repeats, options.runs)
    return Part(
        "observability",
        "Looking on: metrics, logs and the gallery",
        ABOUT.format(clip=options.clip.name, repeats=options.repeats, faces=off[0].faces, runs=options.runs),
        (rise(off, on),),
        (table(off, on),),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
