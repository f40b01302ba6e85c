from dataclasses import dataclass
from datetime import datetime

from services.common.frames import Frame
from services.common.topics import Source

UNBELIEVABLE_AGE_S = 60.0
"""A camera never has so old frames one after the other: capture frees a slot after 2 s."""
DISBELIEF_S = 5.0
"""For so long must all frames of a camera be unbelievably old before its clock is held to be wrong."""


@dataclass(slots=True)
class _Clock:
    offset_s: float = 0.0
    strange_since_s: float | None = None


class Freshness:
    """Says which live frames are too old to be worth working on.

    A frame's time comes from capture's clock, which may be stepped, or differ from ours. A frame from the
    future is fresh. When a camera's frames have all been unbelievably old for a while, then its clock is
    behind ours: from then on the age counts from there. So no step of any clock stops a camera for good.

    Args:
        max_age_s: the oldest that a frame may be; 0 for any age.
        max_cameras: cameras that are remembered; the one least lately seen is forgotten.
    """

    def __init__(self, max_age_s: float, max_cameras: int) -> None:
        self._max_age_s = max_age_s
        self._max_cameras = max_cameras
        self._clocks: dict[Source, _Clock] = {}

    def is_stale(self, frame: Frame, wall: datetime, now_s: float) -> bool:
        """Say whether a frame is too old.

        Args:
            frame: any; a paced one never is.
            wall: what our clock shows, UTC.
            now_s: time that is never stepped, in seconds.
        """
        if frame.paced or not self._max_age_s:
            return False
        clock = self._clock(frame.source)
        age_s = (wall - frame.time).total_seconds()
        if age_s <= self._max_age_s:
            clock.offset_s, clock.strange_since_s = 0.0, None
            return False
        if 0 <= age_s - clock.offset_s <= self._max_age_s:
            clock.strange_since_s = None
            return False
        return not self._is_clock_wrong(clock, age_s, now_s)

    def _is_clock_wrong(self, clock: _Clock, age_s: float, now_s: float) -> bool:
        if age_s <= UNBELIEVABLE_AGE_S:
            clock.strange_since_s = None
        elif clock.strange_since_s is None:
            clock.strange_since_s = now_s
        elif now_s - clock.strange_since_s >= DISBELIEF_S:
            clock.offset_s, clock.strange_since_s = age_s, None
            return True
        return False

    def _clock(self, source: Source) -> _Clock:
        clock = self._clocks.pop(source, None) or _Clock()
        self._clocks[source] = clock
        if len(self._clocks) > self._max_cameras:
            del self._clocks[next(iter(self._clocks))]
        return clock
