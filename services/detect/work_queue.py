"""Frames of one kind, from the mailbox until their faces are cut."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np

from services.common.wire.faces import Face
from services.common.wire.frames import Frame
from services.common.wire.seen import WantedFace
from services.detect.custody import FrameKey
from services.detect.decoder import Decoder
from services.detect.mailbox import Mailbox
from services.detect.motion_gate import MotionGate
from services.detect.pipeline import Look, Pipeline


class Work(Protocol):
    """What is done with a frame of a `WorkQueue`."""

    async def look(self, frame: Frame) -> Look:
        """Return the faces in a frame.

        Raises:
            Refused: its picture cannot be decoded.
            DecoderUnavailable: it cannot be decoded just now.
        """

    async def cut(self, frame: Frame, look: Look, wanted: Sequence[WantedFace] | None) -> list[Face]:
        """Return the faces of a frame that are wanted, or all of them if that is None.

        Raises:
            Refused, DecoderUnavailable: as `look`.
        """


class CheapWork:
    """Decodes frames in the pool's threads.

    Args:
        pool: its threads.
        pipeline: finds and cuts the faces.
        gate: looks at live frames; None where each frame is looked at in full.
        max_image_bytes: returns the largest image of a face that can be delivered.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        pipeline: Pipeline,
        gate: MotionGate | None,
        max_image_bytes: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self._gate = gate
        self._max_image_bytes = max_image_bytes

    async def look(self, frame: Frame) -> Look:
        """Return the faces in a frame; see `Work`."""
        # Of a recording each frame is looked at in full: it can wait, and a replay has to find the same.
        look = self._pipeline.look if self._gate is None or frame.paced else self._gate.look
        return await asyncio.get_running_loop().run_in_executor(self._pool, look, frame)

    async def cut(self, frame: Frame, look: Look, wanted: Sequence[WantedFace] | None) -> list[Face]:
        """Return the faces that are wanted; see `Work`."""
        work = partial(self._pipeline.cut, frame, look, wanted, self._max_image_bytes())
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class CostlyWork:
    """Has another process decode frames, so that no thread waits for that.

    Args:
        pool: its threads run the detector.
        pipeline: finds the faces.
        decoder: decodes the frames and cuts the faces.
        max_image_bytes: as of `CheapWork`.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        pipeline: Pipeline,
        decoder: Decoder,
        max_image_bytes: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._pipeline = pipeline
        self._decoder = decoder
        self._max_image_bytes = max_image_bytes

    async def look(self, frame: Frame) -> Look:
        """Return the faces in a frame; see `Work`."""
        size_px = self._pipeline.settings.detection_size_px
        seen = await self._decoder.look(frame.jpeg, size_px, frame.scope)
        work = partial(self._pipeline.detect, seen.scaled, seen.letterbox, scope=frame.scope)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def cut(self, frame: Frame, look: Look, wanted: Sequence[WantedFace] | None) -> list[Face]:
        """Return the faces that are wanted; see `Work`."""
        chosen = look.chosen(wanted)
        found = look.found.selected(np.fromiter(chosen, np.intp, len(chosen)))
        style = self._pipeline.style(self._max_image_bytes())
        cuts = await self._decoder.cut(frame.jpeg, found, style, frame.scope)
        return self._pipeline.faces(frame, look, chosen, cuts)


class WorkQueue:
    """Frames of one kind: those that wait, and those in work.

    A frame in work holds a worker while it is looked at and while its faces are cut. It holds none in
    between, while forward is asked which are wanted: the answer may wait for an earlier frame, which needs
    one.

    Args:
        max_cameras: cameras that may have frames waiting at once.
        workers: frames that are looked at at once; cutting takes precedence.
        work: looks at a frame, and cuts its faces.

    Attributes:
        mailbox: the frames that wait.
    """

    def __init__(self, max_cameras: int, workers: int, work: Work) -> None:
        self.mailbox = Mailbox(max_cameras)
        self._work = work
        self._idle = workers
        self._in_work: set[FrameKey] = set()

    def __len__(self) -> int:
        return len(self._in_work)

    def is_working_on(self, frame: Frame) -> bool:
        """Say whether this very frame is in work."""
        return FrameKey.of(frame) in self._in_work

    def take(self) -> Frame | None:
        """Return the frame to work on next; None if none waits or no worker is idle."""
        if self._idle <= 0:
            return None
        return self.mailbox.take({key.source for key in self._in_work})

    def begin(self, frame: Frame) -> None:
        """Note that a frame is in work, and reserve a worker for the look at it."""
        self._in_work.add(FrameKey.of(frame))
        self._idle -= 1

    async def look(self, frame: Frame) -> Look:
        """Look at a frame with the worker that `begin` reserved; see `Work`."""
        try:
            return await self._work.look(frame)
        finally:
            self._idle += 1

    async def cut(self, frame: Frame, look: Look, wanted: Sequence[WantedFace] | None) -> list[Face]:
        """Cut a frame's faces; until that is done one worker fewer may take a frame. See `Work`."""
        self._idle -= 1
        try:
            return await self._work.cut(frame, look, wanted)
        finally:
            self._idle += 1

    def end(self, frame: Frame) -> None:
        """Note that a frame is no longer in work."""
        self._in_work.discard(FrameKey.of(frame))
