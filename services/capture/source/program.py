"""A camera's program: which one is run for it, and what it is told."""

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
from services.capture.source.recording import look_at, probe
from services.capture.source.relay import CameraRelay
from services.capture.source.relay_protocols import open_relay
from services.capture.source.v4l2 import choose, in_use
from services.capture.source.watch import Ending, watch
from services.capture.stream.picture import OnPicture

# A device gives its pictures to one program, the first to ask for any; others may look at it all the same.
_BUSY = os.strerror(errno.EBUSY)

log = structlog.get_logger()


class CameraProgram:
    """A camera's program, and what earlier runs of it have taught.

    Args:
        camera: which one.
        facts: what is known about it.
        timeouts: how long it may be silent.
        tally: counts.

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
        """Run it to its end, whatever that is.

        Raises:
            CameraUnavailable: it cannot be started.
        """
        async with open_relay(self._camera) as relay:
            self._facts = replace(self._facts, relay_address=relay.relay_address if relay else None)
            try:
                ending = await self._run(on_picture)
            except CameraUnavailable as error:
                raise CameraUnavailable(_with_problem(str(error), relay)) from error
            # What stood in a program's way it cannot know itself.
            return replace(ending, message=_with_problem(ending.message, relay))

    async def _with_holder(self, ending: Ending) -> Ending:
        """Say who has the device, where somebody else does; it is tried again and again."""
        if self._camera.scheme != "v4l2" or ending.pictures or _BUSY not in ending.message:
            return ending
        place = self._camera.place
        who = await asyncio.to_thread(in_use, place)
        return replace(ending, reason="busy", message=f"{place} is {who} | {ending.message}")

    async def _run(self, on_picture: OnPicture) -> Ending:
        await self._look()
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

    async def _look(self) -> None:
        """Find out what the camera delivers, as far as that is not known."""
        if self._camera.scheme == "v4l2":
            # Each time: what is plugged in now may not be what was. A broken device may hold up its opener.
            self._choose(await asyncio.to_thread(v4l2.describe, self._camera.place))
        elif self._camera.scheme == "rpicam":
            self._facts = replace(self._facts, rpicam=find_rpicam("vid") or self._facts.rpicam)
        elif self._camera.scheme in ("http", "https") and self._facts.http_kind is None:
            http_kind = await look_at(self._camera, self._facts, self._timeouts.start_timeout_s)
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
            # What was passed through is perhaps no JPEG any more.
            self._facts = replace(self._facts, codec=None)
        if "zscale" in ending.message:
            # It refuses colours that it has never heard of; the slower filter takes anything.
            self._facts = replace(self._facts, has_zscale=False)
        if self._camera.options.hwaccel is not None:
            self._turn_hwaccel()

    def _turn_hwaccel(self) -> None:
        """Try without hardware decoding after a try with it that gave nothing, and the other way round."""
        self._facts = replace(self._facts, is_hwaccel_off=not self._facts.is_hwaccel_off)
        if not self._is_fallback_told:
            self._is_fallback_told = True
            hwaccel = self._camera.options.hwaccel
            log.warning("capture.hwaccel_fallback", camera=self._camera.name, hwaccel=hwaccel)


def _with_problem(message: str, relay: CameraRelay | None) -> str:
    return " | ".join(part for part in (relay and relay.problem, message) if part)


def _way(facts: SourceFacts) -> tuple[bool, ...]:
    """Return what of a program's words is changed to see whether that helps."""
    return facts.is_boundless, facts.has_zscale, facts.is_hwaccel_off
