"""A camera's program: which one is run for it, and what it is told."""

import asyncio
import errno
import os
from dataclasses import replace

import structlog

from services.capture.cameras import Camera
from services.capture.metrics import Tally
from services.capture.source import v4l2
from services.capture.source.address import Answer
from services.capture.source.child import CameraUnavailable
from services.capture.source.commands import command, needs_probe, snapshot_fps
from services.capture.source.devices import find_rpicam
from services.capture.source.door import Door
from services.capture.source.doors import open_door
from services.capture.source.recording import look_at, probe
from services.capture.source.site import Command, Site, Wire
from services.capture.source.v4l2 import choose, in_use
from services.capture.source.watch import Ending, Patience, watch
from services.capture.stream.pictures import OnPicture

# A device gives its pictures to one program, the first to ask for any; others may look at it all the same.
_BUSY = os.strerror(errno.EBUSY)

log = structlog.get_logger()


class Program:
    """A camera's program, and what earlier runs of it have taught.

    Args:
        camera: which one.
        site: what is known about it.
        patience: how long it may be silent.
        tally: counts.

    Attributes:
        has_another_way: whether the next run tries something that the last, which gave no picture, did not.
    """

    def __init__(self, camera: Camera, site: Site, patience: Patience, tally: Tally) -> None:
        self._camera = camera
        self._site = site
        self._patience = patience
        self._tally = tally
        self._is_fallback_told = False
        self.has_another_way = False

    async def run(self, on_picture: OnPicture) -> Ending:
        """Run it to its end, whatever that is.

        Raises:
            CameraUnavailable: it cannot be started.
        """
        async with open_door(self._camera) as door:
            self._site = replace(self._site, entrance=door.entrance if door else None)
            try:
                ending = await self._run(on_picture)
            except CameraUnavailable as error:
                raise CameraUnavailable(_with_problem(str(error), door)) from error
            # What stood in a program's way it cannot know itself.
            return replace(ending, words=_with_problem(ending.words, door))

    async def _with_holder(self, ending: Ending) -> Ending:
        """Say who has the device, where somebody else does; it is tried again and again."""
        if self._camera.scheme != "v4l2" or ending.pictures or _BUSY not in ending.words:
            return ending
        place = self._camera.place
        who = await asyncio.to_thread(in_use, place)
        return replace(ending, reason="busy", words=f"{place} is {who} | {ending.words}")

    async def _run(self, on_picture: OnPicture) -> Ending:
        await self._look()
        program = command(self._camera, self._site)
        self._tally.starts.inc()
        ending = await watch(
            program,
            on_picture,
            patience=self._patience_now(),
            tally=self._tally,
            url=self._camera.url,
            entrance=self._site.entrance.url if self._site.entrance else "",
            may_change=self._camera.scheme == "file",
        )
        before = self._site
        self._learn(program, ending)
        self.has_another_way = _way(self._site) != _way(before)
        return await self._with_holder(ending)

    async def _look(self) -> None:
        """Find out what the camera delivers, as far as that is not known."""
        if self._camera.scheme == "v4l2":
            # Each time: what is plugged in now may not be what was. A broken device may hold up its opener.
            self._choose(await asyncio.to_thread(v4l2.describe, self._camera.place))
        elif self._camera.scheme == "rpicam":
            self._site = replace(self._site, rpicam=find_rpicam("vid") or self._site.rpicam)
        elif self._camera.scheme in ("http", "https") and self._site.answer is None:
            answer = await look_at(self._camera, self._site, self._patience.start_timeout_s)
            self._site = replace(self._site, answer=answer)
        if self._site.codec is None and needs_probe(self._camera) and not self._is_polled:
            self._site = await self._probe(self._site)

    async def _probe(self, site: Site) -> Site:
        try:
            found = await probe(self._camera, site, self._patience.start_timeout_s)
        except CameraUnavailable:
            if site.answer is not Answer.MULTIPART or site.is_boundless:
                raise
            return await self._probe(replace(site, is_boundless=True))
        return replace(site, codec=found.codec, is_turned=found.is_turned)

    @property
    def _is_polled(self) -> bool:
        return self._site.answer is Answer.SNAPSHOT

    def _patience_now(self) -> Patience:
        """Return how long to wait for pictures: longer where they are asked for less often."""
        if not self._is_polled:
            return self._patience
        pause_s = 1 / snapshot_fps(self._camera)
        return replace(self._patience, stall_timeout_s=self._patience.stall_timeout_s + pause_s)

    def _choose(self, device: v4l2.Device) -> None:
        chosen = choose(device.formats, self._camera.options)
        if chosen is None:
            offers = ", ".join(sorted({one.codec for one in device.formats})) or "nothing that ffmpeg reads"
            raise CameraUnavailable(f"{device.path} ({device.card}) does not offer that format, but {offers}")
        self._site = replace(self._site, codec=chosen.codec, size=chosen.size, fps=chosen.fps)

    def _learn(self, program: Command, ending: Ending) -> None:
        is_multipart = self._site.answer is Answer.MULTIPART
        if self._is_polled or ending.pictures <= 1:
            # Some addresses give a stream at one time and a single picture at another.
            self._site = replace(self._site, answer=None)
        if ending.pictures:
            return
        self._site = replace(self._site, is_boundless=is_multipart and not self._site.is_boundless)
        if program.wire is Wire.MULTIPART:
            # What was passed through is perhaps no JPEG any more.
            self._site = replace(self._site, codec=None)
        if "zscale" in ending.words:
            # It refuses colours that it has never heard of; the slower filter takes anything.
            self._site = replace(self._site, has_zscale=False)
        if self._camera.options.hwaccel is not None:
            self._turn_hwaccel()

    def _turn_hwaccel(self) -> None:
        """Try without hardware decoding after a try with it that gave nothing, and the other way round."""
        self._site = replace(self._site, is_hwaccel_off=not self._site.is_hwaccel_off)
        if not self._is_fallback_told:
            self._is_fallback_told = True
            hwaccel = self._camera.options.hwaccel
            log.warning("capture.hwaccel_fallback", camera=self._camera.name, hwaccel=hwaccel)


def _with_problem(words: str, door: Door | None) -> str:
    return " | ".join(part for part in (door and door.problem, words) if part)


def _way(site: Site) -> tuple[bool, ...]:
    """Return what of a program's words is changed to see whether that helps."""
    return site.is_boundless, site.has_zscale, site.is_hwaccel_off
