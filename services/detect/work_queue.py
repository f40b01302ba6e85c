from collections.abc import Awaitable, Callable, Sequence

from services.common.wire.faces import Face
from services.common.wire.frames import Frame
from services.common.wire.sights import Wanted
from services.detect.custody import FrameKey
from services.detect.mailbox import Mailbox
from services.detect.pipeline import Look

FindFaces = Callable[[Frame], Awaitable[Look]]
CutFaces = Callable[[Frame, Look, Sequence[Wanted] | None], Awaitable[list[Face]]]
"""Takes a frame, what was seen in it, and which faces are wanted; nothing for all."""


class WorkQueue:
    """Frames of one kind: those that wait, those in work, and how they are worked on.

    A frame in work needs a worker while it is looked at and while its faces are cut. It has none in between,
    while forward is asked which: the answer may wait for an earlier frame, which needs one.

    Attributes:
        mailbox: those that wait.

    Args:
        max_cameras: cameras that may have frames waiting at once.
        workers: frames that are looked at at once; those that are cut come first.
        find: looks at a frame.
        cut: cuts its faces.
    """

    def __init__(self, max_cameras: int, workers: int, find: FindFaces, cut: CutFaces) -> None:
        self.mailbox = Mailbox(max_cameras)
        self._find = find
        self._cut = cut
        self._idle = workers
        self._in_work: set[FrameKey] = set()

    def __len__(self) -> int:
        return len(self._in_work)

    def is_working_on(self, frame: Frame) -> bool:
        """Say whether this very frame is in work."""
        return FrameKey.of(frame) in self._in_work

    def take(self) -> Frame | None:
        """Return the frame to be worked on next, if there is one and a worker is idle."""
        if self._idle <= 0:
            return None
        return self.mailbox.take({key.source for key in self._in_work})

    def begin(self, frame: Frame) -> None:
        """Note that a frame is in work, and that a worker is kept for the look at it."""
        self._in_work.add(FrameKey.of(frame))
        self._idle -= 1

    async def look(self, frame: Frame) -> Look:
        """Look at a frame with the worker that was kept for it."""
        try:
            return await self._find(frame)
        finally:
            self._idle += 1

    async def cut(self, frame: Frame, look: Look, wanted: Sequence[Wanted] | None) -> list[Face]:
        """Cut its faces, with the next worker that is idle."""
        self._idle -= 1
        try:
            return await self._cut(frame, look, wanted)
        finally:
            self._idle += 1

    def end(self, frame: Frame) -> None:
        """Note that a frame is no longer in work."""
        self._in_work.discard(FrameKey.of(frame))
