import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from aiohttp import web

from services.capture import metrics, viewfinder
from services.capture.cameras import TOPICS, Camera
from services.capture.clock import StepWatch
from services.capture.departed import say_who_has_departed
from services.capture.developer import Developer
from services.capture.journal import Journal, open_journal
from services.capture.live import LiveFlow, Shot
from services.capture.metrics import Tally
from services.capture.outlet import Outlet
from services.capture.pace import Pace, RateLimit, decoded_fps
from services.capture.paced import PacedFlow
from services.capture.settings import CaptureSettings
from services.capture.source.ffmpeg import Ffmpeg, choose_ffmpeg, has_filter
from services.capture.source.program import Program
from services.capture.source.site import Site
from services.capture.source.watch import Ending, Patience
from services.capture.subscription import Subscription
from services.capture.supervision import Origin, keep_running, keep_surveying
from services.capture.viewfinder import Viewfinder
from services.capture.window import LiveWindow, PacedWindow
from services.common.mqtt import Broker
from services.common.runtime import http, lock
from services.common.runtime.access import Guard, is_loopback
from services.common.runtime.metrics import DEVICE_INFO, Counts, Waiting, summarise, totals
from services.common.wire.topics import Source

CLOCK_EVERY_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all cameras share."""

    settings: CaptureSettings
    site: Site
    threads: Executor
    journal: Journal


async def serve(settings: CaptureSettings) -> None:
    """Take frames from every camera and hand them to detect until cancelled.

    Raises:
        SetupError: no ffmpeg will do, or the journal or the lock cannot be written.
    """
    DEVICE_INFO.labels(settings.device).set(1)
    site = await asyncio.to_thread(_look_around, settings.ffmpeg)
    with (
        open_journal(settings.journal_path) as journal,
        ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="encode") as threads,
    ):
        equipment = Equipment(settings, site, threads, journal)
        stations = [Station(camera, equipment) for camera in settings.cameras]
        # A standby is healthy: it has no dependency until the cameras are its own.
        checks: dict[str, http.Check] = {}
        notes: dict[str, http.Check] = {}
        routes = _live(stations, settings)
        async with (
            http.serve(settings.http_host, settings.http_port, checks, routes, notes),
            _alone(settings.lock_path),
        ):
            checks |= {f"local/{station.name}": station.outlet.why_not_ready for station in stations}
            # A camera that is away is nothing that capture depends on: it takes the others' pictures.
            notes |= {f"camera/{station.name}": station.outlet.why_not_online for station in stations}
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch_clock(), name="capture.clock")
                tasks.create_task(_summarise(stations), name="capture.summary")
                departed = say_who_has_departed(
                    Broker.local(settings), settings.device, {station.name for station in stations}
                )
                tasks.create_task(departed, name="capture.departed")
                for station in stations:
                    tasks.create_task(station.run(), name=f"capture.{station.name}")


async def _summarise(stations: Sequence["Station"]) -> None:
    def did() -> Counts:
        return totals(
            {
                "frames": metrics.FRAMES,
                "sent": metrics.PUBLISHED,
                "answered": metrics.ANSWERED,
                "dropped": metrics.DROPPED,
            }
        )

    def waits() -> Waiting:
        away = {station.name: station.outlet.state for station in stations}
        away = {name: state for name, state in away.items() if state != "online"}
        return {"not_online": away} if away else {}

    await summarise("capture.summary", did, waits)


async def watch_clock() -> None:
    """Say when the clock was set, and by how much, for ever: so earlier frames' times can be fixed."""
    watch = StepWatch()
    while True:
        # Of the steady clocks the one that goes on while the machine sleeps, as the wall clock does.
        if by_s := watch.note(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)):
            log.warning("capture.clock_set", by_s=round(by_s, 3))
        await asyncio.sleep(CLOCK_EVERY_S)


def _look_around(named: Path | None) -> Site:
    """Return what this machine has; blocks while its programs are asked."""
    ffmpeg = choose_ffmpeg(named)
    _tell(ffmpeg)
    return Site(ffmpeg.program, has_zscale=has_filter(ffmpeg.program, "zscale"))


def _tell(ffmpeg: Ffmpeg) -> None:
    if ffmpeg.passed_over:
        log.warning(
            "capture.ffmpeg_passed_over",
            problem="; ".join(ffmpeg.passed_over),
            used=ffmpeg.program,
            version=ffmpeg.version,
        )


def _live(stations: Sequence["Station"], settings: CaptureSettings) -> list[web.RouteDef]:
    guard = Guard(settings.live_token.get_secret_value()) if settings.live_token else None
    finders = {station.name: station.viewfinder for station in stations}
    return viewfinder.routes(finders, guard, is_loopback=is_loopback(settings.http_host))


def _alone(folder: Path | None) -> AbstractAsyncContextManager[None]:
    return nullcontext() if folder is None else lock.hold(folder, "capture")


class Station:
    """One camera, from its program to the broker.

    Args:
        camera: which one, and how.
        equipment: what it shares with the others.
    """

    def __init__(self, camera: Camera, equipment: Equipment) -> None:
        settings = equipment.settings
        self.name = camera.name
        self._camera = camera
        self._settings = settings
        self._site = equipment.site
        self._journal = equipment.journal
        self._tally = Tally(camera.name)
        self.outlet = Outlet(Broker.local(settings), Source(settings.device, camera.name), self._tally)
        quality = camera.options.quality or settings.jpeg_quality
        self._developer = Developer(camera.name, quality, equipment.threads)
        self.viewfinder = Viewfinder(Developer(camera.name, quality, equipment.threads, camera.options.mask))

    async def run(self) -> None:
        """Hand frames on for ever; at a recording's end, wait: a container would only be started again."""
        async with self.outlet, asyncio.TaskGroup() as tasks:
            if self._camera.options.paced:
                await self._play(tasks)
            else:
                await self._follow(tasks)

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        # Numbers that no earlier run has used: a late answer to that one's frame must not free a place.
        first = time.time_ns() // 1000
        window = LiveWindow[Shot](self._settings.frames_in_flight, self._settings.frame_timeout_s, first)
        fps = self._camera.options.fps
        flow = LiveFlow(
            self.outlet,
            window,
            rate=RateLimit(fps),
            pace=self._pace(),
            developer=self._developer,
            tally=self._tally,
            scope=self._camera.options.scope,
            on_seen=self.viewfinder.saw,
        )
        self._connect(tasks, flow)
        site = replace(self._site, most_fps=decoded_fps(fps, self._settings.usual_looks_per_s))
        await keep_running(
            self._origin(site), self.outlet, self.viewfinder.beside(flow.on_picture), self._is_played
        )
        self.outlet.say("offline", why="ended")

    def _pace(self) -> Pace:
        # The next message of a topic may be hours away, and the best picture be the one that came too soon.
        is_each_due = self._camera.options.fps is not None or self._camera.scheme in TOPICS
        return Pace(most_s=0.0) if is_each_due else Pace()

    async def _play(self, tasks: asyncio.TaskGroup) -> None:
        recording = await keep_surveying(self._site.ffmpeg, self._camera, self.outlet)
        window = PacedWindow(self._settings.frames_in_flight, self._settings.frame_timeout_s)
        flow = PacedFlow(
            self.outlet,
            recording,
            fps=self._camera.options.fps,
            window=window,
            developer=self._developer,
            tally=self._tally,
            journal=self._journal,
            scope=self._camera.options.scope,
        )
        self._connect(tasks, flow)
        flow.start()
        program = self._program(replace(self._site, codec=recording.codec, is_turned=recording.is_turned))
        await keep_running(program, self.outlet, self.viewfinder.beside(flow.on_picture), flow.is_read)
        await flow.finish()
        self.outlet.say("offline", why="ended")

    def _connect(self, tasks: asyncio.TaskGroup, flow: LiveFlow | PacedFlow) -> None:
        tasks.create_task(flow.send(), name=f"capture.{self.name}.send")
        tasks.create_task(flow.receive(), name=f"capture.{self.name}.receive")

    def _origin(self, site: Site) -> Origin:
        if self._camera.scheme not in TOPICS:
            return self._program(site)
        return Subscription(
            self._camera,
            self._settings.device,
            Broker.local(self._settings),
            start_timeout_s=self._settings.start_timeout_s,
            tally=self._tally,
            on_subscribed=lambda: self.outlet.say("online"),
        )

    def _program(self, site: Site) -> Program:
        patience = Patience(self._settings.start_timeout_s, self._settings.stall_timeout_s)
        return Program(self._camera, site, patience, self._tally)

    def _is_played(self, ending: Ending) -> bool:
        """Say whether a file has come to its end; a camera never does."""
        return self._camera.scheme == "file" and ending.status == 0 and ending.pictures > 0
