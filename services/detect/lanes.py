from collections.abc import Awaitable, Callable

from services.common.faces import Face
from services.common.frames import Frame
from services.detect.custody import FrameKey
from services.detect.mailbox import Mailbox

FindFaces = Callable[[Frame, int], Awaitable[list[Face]]]
"""Takes a frame, and how many bytes the broker takes of a crop."""


class Lane:
    """Frames of one kind: those that wait, those in work, and how they are worked on.

    Attributes:
        mailbox: those that wait.
        find_faces: what is done with a frame.

    Args:
        max_cameras: cameras that may have frames waiting at once.
        workers: frames that are worked on at once.
        find_faces: see above.
    """

    def __init__(self, max_cameras: int, workers: int, find_faces: FindFaces) -> None:
        self.mailbox = Mailbox(max_cameras)
        self.find_faces = find_faces
        self._workers = workers
        self._in_work: set[FrameKey] = set()

    def __len__(self) -> int:
        return len(self._in_work)

    def is_working_on(self, frame: Frame) -> bool:
        """Say whether this very frame is in work."""
        return FrameKey.of(frame) in self._in_work

    def take(self) -> Frame | None:
        """Return the frame to be worked on next, if there is one and a worker is idle."""
        if len(self._in_work) >= self._workers:
            return None
        return self.mailbox.take({key.source for key in self._in_work})

    def begin(self, frame: Frame) -> None:
        """Note that a frame is in work."""
        self._in_work.add(FrameKey.of(frame))

    def end(self, frame: Frame) -> None:
        """Note that it is no longer."""
        self._in_work.discard(FrameKey.of(frame))
