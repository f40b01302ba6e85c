"""One half of benchmarks.soak: everything at once for a long time, while each service is sampled."""

import asyncio
import contextlib
import os
import random
import re
import shlex
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from services.capture.source.ffmpeg import find_ffmpeg
from services.up.brokers import free_port
from tests.rigs.clips import ONE_FACE, clip
from tests.rigs.soak.flatness import Sample
from tests.support import MosquittoServer, ServiceProcess

SERVICES = ("store", "forward", "detect", "gallery", "capture")
FRAMES_A_S = 4
READY_S = 60.0
VISITORS = 4
STAYS_S = 8.0
"""A page stays open for so long at most."""
_MEMORY = re.compile(r"^(VmRSS|RssAnon|VmSwap):\s*(\d+) kB$", re.MULTILINE)
_IMAGE = re.compile(r'src="(/image/[^"]+)"')


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and what happens how often, in seconds."""

    seconds: float
    sample_every_s: float
    restart_every_s: float
    camera_dies_after_s: float


@dataclass(slots=True)
class Soaked:
    """What a run came to.

    Attributes:
        samples: of each service.
        happened: how often a page was opened, a picture watched, a broker restarted, a camera started.
        faces: how many were stored at each sample.
        seconds: how long it took from when all were ready.
    """

    samples: defaultdict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    happened: Counter[str] = field(default_factory=Counter)
    faces: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0


async def soak(folder: Path, plan: Plan, progress: Callable[[str], object]) -> Soaked:
    """Run all services for so long in an empty folder.

    Raises:
        RuntimeError: a service ended; its last words are in the message.
    """
    soaked = Soaked()
    async with _stage(folder, plan) as (services, brokers, gallery):
        began_s = time.monotonic()
        live = f"http://127.0.0.1:{services['capture'].http_port}"
        async with _running(
            *(lambda: _visit_gallery(gallery, soaked.happened) for _ in range(VISITORS)),
            *(lambda: _visit_live(live, soaked.happened) for _ in range(VISITORS // 2)),
            *(lambda broker=broker: _restart(broker, plan, soaked.happened) for broker in brokers),
        ) as failed:
            while (at_s := time.monotonic() - began_s) < plan.seconds:
                failed()
                await asyncio.to_thread(_sample, services, folder, soaked, at_s)
                progress(_told(soaked, at_s, plan.seconds))
                await asyncio.sleep(plan.sample_every_s)
        soaked.seconds = time.monotonic() - began_s
        starts = await asyncio.to_thread(services["capture"].metric, "faceferry_capture_starts_total")
        soaked.happened["starts of a camera's program"] = int(starts)
    return soaked


@asynccontextmanager
async def _stage(
    folder: Path, plan: Plan
) -> AsyncIterator[tuple[dict[str, ServiceProcess], list[MosquittoServer], str]]:
    """Run everything; yield the services, the brokers and the gallery's address."""
    async with AsyncExitStack() as stack:
        brokers = [MosquittoServer(folder), MosquittoServer(folder)]
        for broker in brokers:
            stack.callback(broker.start().kill)
        settings = _settings(folder, plan, *brokers)
        services = {name: ServiceProcess(name, folder, settings) for name in SERVICES}
        for service in services.values():
            stack.callback(service.start().kill)
        for service in services.values():
            await _ready(service)
        yield services, brokers, f"http://127.0.0.1:{settings['FACEFERRY_GALLERY_PORT']}"


def _settings(folder: Path, plan: Plan, local: MosquittoServer, cloud: MosquittoServer) -> Mapping[str, str]:
    recording = clip(ONE_FACE, "mjpeg", "640x480", fps=FRAMES_A_S)
    dying = [
        *(find_ffmpeg(), "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(recording)),
        *("-t", f"{plan.camera_dies_after_s:g}", "-c", "copy", "-f", "mpjpeg", "-"),
    ]
    return {
        "FACEFERRY_DEVICE": "soak",
        "FACEFERRY_KEEP": "every",
        "FACEFERRY_CAMERAS": f"live={recording.as_uri()}?loop=1\ndying=exec:{shlex.join(dying)}",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
        "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
        "FACEFERRY_GALLERY_PORT": str(free_port()),
        "FACEFERRY_LOG_FORMAT": "json",
    }


async def _ready(service: ServiceProcess) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(READY_S):
        while True:
            _check(service)
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{service.http_port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)


def _check(service: ServiceProcess) -> None:
    if service.exit_status is not None:
        words = service.log[-2_000:]
        raise RuntimeError(f"{service.name} ended with status {service.exit_status}: {words}")


def _sample(services: Mapping[str, ServiceProcess], folder: Path, soaked: Soaked, at_s: float) -> None:
    for name, service in services.items():
        _check(service)
        soaked.samples[name].append(_sample_of(service.pid, at_s))
    stored = os.walk(folder / "faces")
    faces = sum(name.endswith(".jpg") for _where, _folders, names in stored for name in names)
    soaked.faces.append((at_s, faces))


def _sample_of(pid: int, at_s: float) -> Sample:
    memory = dict(_MEMORY.findall(Path(f"/proc/{pid}/status").read_text()))
    return Sample(
        at_s,
        resident_bytes=1024 * int(memory["VmRSS"]),
        own_bytes=1024 * (int(memory["RssAnon"]) + int(memory["VmSwap"])),
        descriptors=psutil.Process(pid).num_fds(),
        threads=psutil.Process(pid).num_threads(),
    )


def _told(soaked: Soaked, at_s: float, seconds: float) -> str:
    resident = ", ".join(
        f"{name} {samples[-1].resident_bytes / 1e6:.0f}" for name, samples in soaked.samples.items()
    )
    return f"{at_s:.0f} of {seconds:.0f} s, {soaked.faces[-1][1]} faces; MB: {resident}"


@asynccontextmanager
async def _running(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[Callable[[], None]]:
    """Run all of them meanwhile; yield what raises the error of one that has failed."""
    tasks = [asyncio.ensure_future(work()) for work in works]

    def failed() -> None:
        for task in tasks:
            if task.done():
                task.result()

    try:
        yield failed
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _restart(broker: MosquittoServer, plan: Plan, happened: Counter[str]) -> None:
    while True:
        await asyncio.sleep(plan.restart_every_s)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        happened["restarts of a broker"] += 1


async def _visit_gallery(url: str, happened: Counter[str]) -> None:
    """Open pages and close them again, as a browser does: with their images, and their stream of news."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(url) as session:
                for path in ("/", random.choice(["/devices", "/?source=soak/live"])):
                    images = _IMAGE.findall(await _read(session, path))
                    for image in random.sample(images, min(8, len(images))):
                        await _read(session, image)
                        await _read(session, image.replace("/image/", "/face/"))
                    happened["pages opened"] += 1
                await _watch(session, "/events", random.uniform(0, STAYS_S))
        await asyncio.sleep(random.uniform(0, 1))


async def _visit_live(url: str, happened: Counter[str]) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(url) as session:
                await _read(session, "/live")
                camera = random.choice(["live", "dying"])
                await _watch(session, f"/live/{camera}.mjpeg", random.uniform(0, STAYS_S))
                happened["live pictures watched"] += 1
        await asyncio.sleep(random.uniform(0, 1))


async def _read(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as answer:
        return (await answer.read()).decode("latin-1")


async def _watch(session: aiohttp.ClientSession, path: str, seconds: float) -> None:
    """Read a stream for a while, and hang up in the middle."""
    forever = aiohttp.ClientTimeout(total=None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), session.get(path, timeout=forever) as answer:
            async for _part in answer.content.iter_any():
                pass
