"""Runs the program that reads a camera, and learns from each run what to tell the next."""

import asyncio
import errno
import os
from dataclasses import replace

import structlog

from services.capture.cameras import Camera
from services.capture.metrics import Tally
from services.capture.source import v4l2
from services.capture.source.child import CameraUnavailable
from services.capture.source.commands import command, needs_probe, snapshot_fps
from services.capture.source.devices import find_rpicam
from services.capture.source.facts import Command, OutputFormat, SourceFacts
from services.capture.source.http_address import HttpKind
from services.capture.source.pipe import Timeouts
from services.capture.source.recording import ask_http_kind, probe
from services.capture.source.relay import CameraRelay
from services.capture.source.relay_protocols import open_relay
from services.capture.source.v4l2 import choose, in_use
from services.capture.source.watch import Ending, watch
from services.capture.stream.picture import OnPicture

# A device gives its pictures to one program, the first to ask for any; others may look at it all the same.
_BUSY = os.strerror(errno.EBUSY)

log = structlog.get_logger()


class CameraProgram:
    """A camera's program, and what is known from its earlier runs.

    Args:
        camera: whose program.
        facts: what is known of the camera and this machine before the first run.
        timeouts: how long the program may be silent.
        tally: counts starts and what is skipped.

    Attributes:
        has_another_way: whether the next run tries something that the last, which gave no picture, did not.
    """

    def __init__(self, camera: Camera, facts: SourceFacts, timeouts: Timeouts, tally: Tally) -> None:
        self._camera = camera
        self._facts = facts
        self._timeouts = timeouts
        self._tally = tally
        self._is_fallback_told = False
        self.has_another_way = False

    async def run(self, on_picture: OnPicture) -> Ending:
        """Run the program until it ends or is stopped; return how it ended.

        Raises:
            CameraUnavailable: it cannot be started, or the camera cannot be asked what it delivers.
        """
        async with open_relay(self._camera) as relay:
            self._facts = replace(self._facts, relay_address=relay.relay_address if relay else None)
            try:
                ending = await self._run(on_picture)
            except CameraUnavailable as error:
                raise CameraUnavailable(_with_problem(str(error), relay)) from error
            # The program does not know why the relay could not reach the camera.
            return replace(ending, message=_with_problem(ending.message, relay))

    async def _with_holder(self, ending: Ending) -> Ending:
        """Return an ending that names the program that has the device, if another one has it."""
        if self._camera.scheme != "v4l2" or ending.pictures or _BUSY not in ending.message:
            return ending
        place = self._camera.place
        who = await asyncio.to_thread(in_use, place)
        return replace(ending, reason="busy", message=f"{place} is {who} | {ending.message}")

    async def _run(self, on_picture: OnPicture) -> Ending:
        await self._find_out()
        program = command(self._camera, self._facts)
        self._tally.starts.inc()
        ending = await watch(
            program,
            on_picture,
            timeouts=self._timeouts_now(),
            tally=self._tally,
            url=self._camera.url,
            relay_url=self._facts.relay_address.url if self._facts.relay_address else "",
            may_change=self._camera.scheme == "file",
        )
        before = self._facts
        self._learn(program, ending)
        self.has_another_way = _way(self._facts) != _way(before)
        return await self._with_holder(ending)

    async def _find_out(self) -> None:
        """Find out what the camera delivers, as far as it is unknown."""
        if self._camera.scheme == "v4l2":
            # Each time: another camera may be plugged in now. In a thread: a broken device may block.
            self._choose(await asyncio.to_thread(v4l2.describe, self._camera.place))
        elif self._camera.scheme == "rpicam":
            self._facts = replace(self._facts, rpicam=find_rpicam("vid") or self._facts.rpicam)
        elif self._camera.scheme in ("http", "https") and self._facts.http_kind is None:
            http_kind = await ask_http_kind(self._camera, self._facts, self._timeouts.start_timeout_s)
            self._facts = replace(self._facts, http_kind=http_kind)
        if self._facts.codec is None and needs_probe(self._camera) and not self._is_polled:
            self._facts = await self._probe(self._facts)

    async def _probe(self, facts: SourceFacts) -> SourceFacts:
        try:
            found = await probe(self._camera, facts, self._timeouts.start_timeout_s)
        except CameraUnavailable:
            if facts.http_kind is not HttpKind.MULTIPART or facts.is_boundless:
                raise
            return await self._probe(replace(facts, is_boundless=True))
        return replace(facts, codec=found.codec, is_turned=found.is_turned)

    @property
    def _is_polled(self) -> bool:
        return self._facts.http_kind is HttpKind.SNAPSHOT

    def _timeouts_now(self) -> Timeouts:
        """Return how long to wait for pictures: longer where they are asked for less often."""
        if not self._is_polled:
            return self._timeouts
        pause_s = 1 / snapshot_fps(self._camera)
        return replace(self._timeouts, stall_timeout_s=self._timeouts.stall_timeout_s + pause_s)

    def _choose(self, device: v4l2.VideoDevice) -> None:
        chosen = choose(device.formats, self._camera.options)
        if chosen is None:
            offers = ", ".join(sorted({one.codec for one in device.formats})) or "nothing that ffmpeg reads"
            raise CameraUnavailable(f"{device.path} ({device.card}) does not offer that format, but {offers}")
        self._facts = replace(self._facts, codec=chosen.codec, size=chosen.size, fps=chosen.fps)

    def _learn(self, program: Command, ending: Ending) -> None:
        is_multipart = self._facts.http_kind is HttpKind.MULTIPART
        if self._is_polled or ending.pictures <= 1:
            # Some addresses give a stream at one time and a single picture at another.
            self._facts = replace(self._facts, http_kind=None)
        if ending.pictures:
            return
        self._facts = replace(self._facts, is_boundless=is_multipart and not self._facts.is_boundless)
        if program.output_format is OutputFormat.MULTIPART:
            # The camera may deliver no JPEG any longer.
            self._facts = replace(self._facts, codec=None)
        if "zscale" in ending.message:
            # zscale refuses colour spaces that it does not know; the slower filter takes any.
            self._facts = replace(self._facts, has_zscale=False)
        if self._camera.options.hwaccel is not None:
            self._switch_hwaccel()

    def _switch_hwaccel(self) -> None:
        """Switch hardware decoding off after a run with it that gave no picture, and on after one without."""
        self._facts = replace(self._facts, is_hwaccel_off=not self._facts.is_hwaccel_off)
        if not self._is_fallback_told:
            self._is_fallback_told = True
            hwaccel = self._camera.options.hwaccel
            log.warning("capture.hwaccel_fallback", camera=self._camera.name, hwaccel=hwaccel)


def _with_problem(message: str, relay: CameraRelay | None) -> str:
    return " | ".join(part for part in (relay and relay.problem, message) if part)


def _way(facts: SourceFacts) -> tuple[bool, ...]:
    """Return the facts that are changed from run to run to see whether that helps."""
    return facts.is_boundless, facts.has_zscale, facts.is_hwaccel_off
