import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from services.capture import v4l2
from services.capture.cameras import Camera
from services.capture.child import CameraUnavailable
from services.capture.formats import choose
from services.capture.machine import find_rpicam
from services.capture.metrics import Tally
from services.capture.pictures import Picture
from services.capture.probe import is_snapshot_address, probe
from services.capture.sources import Command, Site, Wire, command, needs_probe, snapshot_fps
from services.capture.watch import Ending, Patience, watch
from services.capture.words import secrets_of

log = structlog.get_logger()


class Program:
    """A camera's program, and what earlier runs of it have taught.

    Args:
        camera: which one.
        site: what is known about it.
        patience: how long it may be silent.
        tally: counts.
    """

    def __init__(self, camera: Camera, site: Site, patience: Patience, tally: Tally) -> None:
        self._camera = camera
        self._site = site
        self._patience = patience
        self._tally = tally
        self._is_fallback_told = False

    async def run(self, on_picture: Callable[[Picture], Awaitable[None]]) -> Ending:
        """Run it to its end, whatever that is.

        Raises:
            CameraUnavailable: it cannot be started.
        """
        await self._look()
        program = command(self._camera, self._site)
        self._tally.starts.inc()
        ending = await watch(
            program,
            on_picture,
            patience=self._patience_now(),
            tally=self._tally,
            secrets=secrets_of(self._camera.url),
            may_change=self._camera.scheme == "file",
        )
        self._learn(program, ending)
        return ending

    async def _look(self) -> None:
        """Find out what the camera delivers, as far as that is not known."""
        if self._camera.scheme == "v4l2":
            # Each time: what is plugged in now may not be what was. A broken device may hold up its opener.
            self._choose(await asyncio.to_thread(v4l2.describe, self._camera.place))
        elif self._camera.scheme == "rpicam":
            self._site = replace(self._site, rpicam=find_rpicam("vid") or self._site.rpicam)
        elif self._camera.scheme in ("http", "https") and self._site.is_snapshot is None:
            is_snapshot = await is_snapshot_address(self._camera, self._site, self._patience.start_timeout_s)
            self._site = replace(self._site, is_snapshot=is_snapshot)
        if self._site.codec is None and needs_probe(self._camera) and not self._site.is_snapshot:
            found = await probe(self._camera, self._site, self._patience.start_timeout_s)
            self._site = replace(self._site, codec=found.codec, is_turned=found.is_turned)

    def _patience_now(self) -> Patience:
        """Return how long to wait for pictures: longer where they are asked for less often."""
        if not self._site.is_snapshot:
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
        if self._site.is_snapshot or ending.pictures <= 1:
            # Some addresses give a stream at one time and a single picture at another.
            self._site = replace(self._site, is_snapshot=None)
        if ending.pictures:
            return
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
