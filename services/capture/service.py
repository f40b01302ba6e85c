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
from services.capture.encoder import JpegEncoder
from services.capture.flow_control import LiveWindow, PacedWindow, RateLimit, SendSchedule, decoded_fps
from services.capture.live import LiveFlow, TimedPicture
from services.capture.metrics import Tally
from services.capture.outlet import Outlet
from services.capture.paced import PacedFlow
from services.capture.playback_journal import PlaybackJournal, open_journal
from services.capture.removed_cameras import forget_removed_cameras
from services.capture.settings import CaptureSettings
from services.capture.source.facts import SourceFacts
from services.capture.source.ffmpeg import Ffmpeg, choose_ffmpeg, has_filter
from services.capture.source.pipe import Timeouts
from services.capture.source.program import CameraProgram
from services.capture.source.watch import Ending
from services.capture.subscription import Subscription
from services.capture.supervision import PictureSource, keep_running, keep_surveying
from services.capture.viewfinder import Viewfinder
from services.common.mqtt import Broker
from services.common.runtime import http, lock
from services.common.runtime.access import Guard, is_loopback
from services.common.runtime.metrics import DEVICE_INFO, Counts, Waiting, summarise, totals
from services.common.wire.topics import Source

CLOCK_EVERY_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SharedResources:
    """The resources that all cameras share.

    Attributes:
        settings: capture's.
        facts: what is known of this machine.
        threads: where pictures are encoded.
        journal: where the answers to paced frames are noted.
    """

    settings: CaptureSettings
    facts: SourceFacts
    threads: Executor
    journal: PlaybackJournal


async def serve(settings: CaptureSettings) -> None:
    """Take frames from every camera and hand them to detect until cancelled.

    Raises:
        SetupError: there is no ffmpeg that is new enough, or the journal or the lock cannot be written.
    """
    DEVICE_INFO.labels(settings.device).set(1)
    facts = await asyncio.to_thread(_find_ffmpeg, settings.ffmpeg)
    with (
        open_journal(settings.journal_path) as journal,
        ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="encode") as threads,
    ):
        shared = SharedResources(settings, facts, threads, journal)
        pipelines = [CameraPipeline(camera, shared) for camera in settings.cameras]
        # A standby is healthy: it has no dependency until the cameras are its own.
        checks: dict[str, http.Check] = {}
        notes: dict[str, http.Check] = {}
        routes = _live_routes(pipelines, settings)
        async with (
            http.serve(settings.http_host, settings.http_port, checks, routes, notes),
            _held_lock(settings.lock_path),
        ):
            checks |= {f"local/{pipeline.name}": pipeline.outlet.why_not_ready for pipeline in pipelines}
            # Capture does not depend on any one camera: while it is away the others' pictures are taken.
            notes |= {f"camera/{pipeline.name}": pipeline.outlet.why_not_online for pipeline in pipelines}
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch_clock(), name="capture.clock")
                tasks.create_task(_summarise(pipelines), name="capture.summary")
                forgetting = forget_removed_cameras(
                    Broker.local(settings), settings.device, {pipeline.name for pipeline in pipelines}
                )
                tasks.create_task(forgetting, name="capture.removed_cameras")
                for pipeline in pipelines:
                    tasks.create_task(pipeline.run(), name=f"capture.{pipeline.name}")


async def _summarise(pipelines: Sequence["CameraPipeline"]) -> None:
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
        away = {pipeline.name: pipeline.outlet.state for pipeline in pipelines}
        away = {name: state for name, state in away.items() if state != "online"}
        return {"not_online": away} if away else {}

    await summarise("capture.summary", did, waits)


async def watch_clock() -> None:
    """Log, for ever, when the clock is set, and by how much: so earlier frames' times can be corrected."""
    watch = StepWatch()
    while True:
        # Of the steady clocks the one that goes on while the machine sleeps, as the wall clock does.
        if by_s := watch.note(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)):
            log.warning("capture.clock_set", by_s=round(by_s, 3))
        await asyncio.sleep(CLOCK_EVERY_S)


def _find_ffmpeg(named: Path | None) -> SourceFacts:
    """Return what is known of this machine; blocks while its ffmpeg is asked."""
    ffmpeg = choose_ffmpeg(named)
    _log_passed_over(ffmpeg)
    return SourceFacts(ffmpeg.program, has_zscale=has_filter(ffmpeg.program, "zscale"))


def _log_passed_over(ffmpeg: Ffmpeg) -> None:
    if ffmpeg.passed_over:
        log.warning(
            "capture.ffmpeg_passed_over",
            problem="; ".join(ffmpeg.passed_over),
            used=ffmpeg.program,
            version=ffmpeg.version,
        )


def _live_routes(pipelines: Sequence["CameraPipeline"], settings: CaptureSettings) -> list[web.RouteDef]:
    guard = Guard(settings.live_token.get_secret_value()) if settings.live_token else None
    viewfinders = {pipeline.name: pipeline.viewfinder for pipeline in pipelines}
    return viewfinder.routes(viewfinders, guard, is_loopback=is_loopback(settings.http_host))


def _held_lock(folder: Path | None) -> AbstractAsyncContextManager[None]:
    return nullcontext() if folder is None else lock.hold(folder, "capture")


class CameraPipeline:
    """One camera, from its program to the broker.

    Args:
        camera: as the settings describe it.
        shared: the resources that all cameras share.

    Attributes:
        name: the camera's.
        outlet: its connection to the broker.
        viewfinder: its live picture.
    """

    def __init__(self, camera: Camera, shared: SharedResources) -> None:
        settings = shared.settings
        self.name = camera.name
        self._camera = camera
        self._settings = settings
        self._facts = shared.facts
        self._journal = shared.journal
        self._tally = Tally(camera.name)
        self.outlet = Outlet(Broker.local(settings), Source(settings.device, camera.name), self._tally)
        quality = camera.options.quality or settings.jpeg_quality
        self._encoder = JpegEncoder(camera.name, quality, shared.threads)
        self.viewfinder = Viewfinder(JpegEncoder(camera.name, quality, shared.threads, camera.options.mask))

    async def run(self) -> None:
        """Hand frames on for ever. At a recording's end, wait: a container would only be started again."""
        async with self.outlet, asyncio.TaskGroup() as tasks:
            if self._camera.options.paced:
                await self._run_paced(tasks)
            else:
                await self._run_live(tasks)

    async def _run_live(self, tasks: asyncio.TaskGroup) -> None:
        # Numbers that no earlier run has used: a late answer to its frame must not free a place.
        first = time.time_ns() // 1000
        settings, fps = self._settings, self._camera.options.fps
        window = LiveWindow[TimedPicture](settings.frames_in_flight, settings.frame_timeout_s, first)
        flow = LiveFlow(
            self.outlet,
            window,
            rate=RateLimit(fps),
            schedule=self._schedule(),
            encoder=self._encoder,
            tally=self._tally,
            scope=self._camera.options.scope,
            latest=self.viewfinder.latest,
            on_seen=self.viewfinder.saw,
        )
        self._start_flow(tasks, flow)
        facts = replace(self._facts, most_fps=decoded_fps(fps, self._settings.usual_looks_per_s))
        await keep_running(self._source(facts), self.outlet, flow.on_picture, self._is_played)
        self.outlet.say("offline", why="ended")

    def _schedule(self) -> SendSchedule:
        # The next message of a topic may be hours away: none is dropped because it came too soon.
        is_each_due = self._camera.options.fps is not None or self._camera.scheme in TOPICS
        return SendSchedule(most_s=0.0) if is_each_due else SendSchedule()

    async def _run_paced(self, tasks: asyncio.TaskGroup) -> None:
        recording = await keep_surveying(self._facts.ffmpeg, self._camera, self.outlet)
        window = PacedWindow(self._settings.frames_in_flight, self._settings.frame_timeout_s)
        flow = PacedFlow(
            self.outlet,
            recording,
            fps=self._camera.options.fps,
            window=window,
            encoder=self._encoder,
            tally=self._tally,
            journal=self._journal,
            latest=self.viewfinder.latest,
            scope=self._camera.options.scope,
        )
        self._start_flow(tasks, flow)
        flow.start()
        program = self._program(replace(self._facts, codec=recording.codec, is_turned=recording.is_turned))
        await keep_running(program, self.outlet, flow.on_picture, flow.is_read)
        await flow.finish()
        self.outlet.say("offline", why="ended")

    def _start_flow(self, tasks: asyncio.TaskGroup, flow: LiveFlow | PacedFlow) -> None:
        tasks.create_task(flow.send(), name=f"capture.{self.name}.send")
        tasks.create_task(flow.receive(), name=f"capture.{self.name}.receive")

    def _source(self, facts: SourceFacts) -> PictureSource:
        if self._camera.scheme not in TOPICS:
            return self._program(facts)
        return Subscription(
            self._camera,
            self._settings.device,
            Broker.local(self._settings),
            start_timeout_s=self._settings.start_timeout_s,
            tally=self._tally,
            on_subscribed=lambda: self.outlet.say("online"),
        )

    def _program(self, facts: SourceFacts) -> CameraProgram:
        timeouts = Timeouts(self._settings.start_timeout_s, self._settings.stall_timeout_s)
        return CameraProgram(self._camera, facts, timeouts, self._tally)

    def _is_played(self, ending: Ending) -> bool:
        """Say whether a file has come to its end; a camera never does."""
        return self._camera.scheme == "file" and ending.status == 0 and ending.pictures > 0
