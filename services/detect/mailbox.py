"""The frames that wait for a worker. Pure."""

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

from services.common.wire.frames import PASSING, Frame
from services.common.wire.topics import Source

MAX_PACED = 64
"""Paced frames of one camera that may wait; capture keeps far fewer unanswered."""
MAX_PACED_BYTES = 32 * 1024 * 1024
"""The same in bytes: as many as capture keeps unanswered, at the largest size that brokers take."""


class Dropped(NamedTuple):
    """A frame that is not worked on, and why."""

    frame: Frame
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether capture is told: not of a paced frame that it has to send again, or is told of later."""
        return not (self.frame.paced and (self.reason in PASSING or self.reason == "repeated"))


class Mailbox:
    """Frames that wait for a worker: a bounded number, cameras in turn.

    Of a live camera only the newest frame waits, and replaces the one before. Paced frames wait in order.

    Args:
        max_cameras: cameras that may have frames waiting at once; frames of others are dropped.
    """

    def __init__(self, max_cameras: int) -> None:
        self._max_cameras = max_cameras
        self._cameras: OrderedDict[Source, list[Frame]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._cameras.values()))

    def put(self, frame: Frame) -> list[Dropped]:
        """Add a frame; return the frames that are dropped for it, which may be itself."""
        waiting = self._cameras.get(frame.source)
        if waiting is None:
            if len(self._cameras) >= self._max_cameras:
                return [Dropped(frame, "too_many_cameras")]
            waiting = self._cameras[frame.source] = []
        return _put_paced(waiting, frame) if frame.paced else _put_live(waiting, frame)

    def take(self, busy: Collection[Source] = ()) -> Frame | None:
        """Remove and return the oldest frame of the camera whose turn it is; None if none waits.

        Args:
            busy: cameras that have a frame in work. They come after all others: so a camera with slow frames
                never holds two workers while another camera waits.
        """
        if not self._cameras:
            return None
        source = next((camera for camera in self._cameras if camera not in busy), next(iter(self._cameras)))
        waiting = self._cameras.pop(source)
        frame = waiting.pop(0)
        if waiting:
            self._cameras[source] = waiting
        return frame

    def take_live(self) -> list[Frame]:
        """Remove and return all live frames; paced ones stay."""
        live = [frame for waiting in self._cameras.values() for frame in waiting if not frame.paced]
        for frame in live:
            self._cameras[frame.source].remove(frame)
            if not self._cameras[frame.source]:
                del self._cameras[frame.source]
        return live


def _put_paced(waiting: list[Frame], frame: Frame) -> list[Dropped]:
    if any(other.sequence == frame.sequence and other.time == frame.time for other in waiting):
        return [Dropped(frame, "repeated")]
    waiting_bytes = sum(len(other.jpeg) for other in waiting)
    if len(waiting) >= MAX_PACED or (waiting and waiting_bytes + len(frame.jpeg) > MAX_PACED_BYTES):
        return [Dropped(frame, "mailbox_full")]
    waiting.append(frame)
    return []


def _put_live(waiting: list[Frame], frame: Frame) -> list[Dropped]:
    older = [other for other in waiting if not other.paced]
    for other in older:
        waiting.remove(other)
    waiting.append(frame)
    return [Dropped(other, "superseded") for other in older]
