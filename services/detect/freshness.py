"""Judges the age of live frames, whose clock may differ from ours. Pure: time is an argument."""

import math
from dataclasses import dataclass, field
from datetime import datetime

from services.common.wire.frames import Frame
from services.common.wire.topics import Source

PROOF_S = 0.5
"""For how long a new camera's frames must be late by the same before its clock is taken to be behind ours."""
DISBELIEF_S = 5.0
"""The same for a camera whose clock was known: it may have been stepped, but a queue is more likely."""
SHRINKING_S = 0.2
"""Ages that shrink by more than this meanwhile come from a queue that drains: the frames are that old."""
MEMORY_S = 30.0
"""The smallest age is remembered for this long to twice as long, because clocks drift."""


@dataclass(slots=True)
class _Offset:
    """How far a camera's clock is behind ours: the smallest age lately, for no frame comes before its time.

    Attributes:
        first_s: the age that it began with.
        since_s: when it began.
    """

    first_s: float
    since_s: float
    _smallest_s: float = field(init=False)
    _before_s: float = field(init=False, default=math.inf)
    _renewed_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._smallest_s, self._renewed_s = self.first_s, self.since_s

    @property
    def seconds(self) -> float:
        """The smallest age lately."""
        return min(self._smallest_s, self._before_s)

    def note(self, age_s: float, now_s: float) -> None:
        """Take a frame's age into account."""
        if now_s - self._renewed_s >= MEMORY_S:
            self._before_s, self._smallest_s, self._renewed_s = self._smallest_s, age_s, now_s
        self._smallest_s = min(self._smallest_s, age_s)

    def is_steady(self, for_s: float, now_s: float) -> bool:
        """Say whether it began `for_s` seconds ago or earlier."""
        return now_s - self.since_s >= for_s

    def is_shrinking(self, age_s: float) -> bool:
        """Say whether an age is so much smaller that the earlier ones were those of a queue."""
        return age_s < self.first_s - SHRINKING_S


@dataclass(slots=True)
class _Clock:
    """A camera's clock: its offset from ours, and a rival offset that recent frames suggest."""

    offset: _Offset
    is_proven: bool = False
    rival: _Offset | None = None

    @property
    def offset_s(self) -> float:
        """Seconds to subtract from ages. A frame from the future proves at once that its clock is ahead."""
        return self.offset.seconds if self.is_proven else min(0.0, self.offset.seconds)

    def agrees(self, age_s: float, now_s: float) -> None:
        """Take a frame whose age fits the known offset."""
        self.rival = None
        if self.is_proven or not self.offset.is_shrinking(age_s):
            self.offset.note(age_s, now_s)
            self.is_proven = self.is_proven or self.offset.is_steady(PROOF_S, now_s)
        else:
            self.offset = _Offset(age_s, now_s)

    def disagrees(self, age_s: float, max_age_s: float, now_s: float) -> None:
        """Take a frame too old for the known offset: it was in a queue, or its clock was stepped."""
        if 0 <= age_s <= max_age_s:  # a clock that was ahead and has been set right
            self.offset, self.is_proven, self.rival = _Offset(age_s, now_s), False, None
            return
        rival = self.rival
        if rival is None or rival.is_shrinking(age_s) or age_s > rival.seconds + max_age_s:
            self.rival = _Offset(age_s, now_s)
            return
        rival.note(age_s, now_s)
        if rival.is_steady(DISBELIEF_S, now_s):
            self.offset, self.is_proven, self.rival = rival, True, None


class Freshness:
    """Says which live frames are too old to be worth working on.

    A frame's time is by capture's clock, which may differ from ours (another host) or be stepped. So a frame
    is too old if it comes later than the camera's frames usually do: the smallest age seen lately is taken
    for the difference of the clocks, as one-way delays are estimated. Assumptions:

    - Until a camera's frames show otherwise, its clock agrees with ours or is ahead. So of a camera whose
      clock is behind the frames of the first `PROOF_S` are lost, and a queue at the start is recognised.
    - A queue drains: the ages of its frames shrink by more than `SHRINKING_S` in that time. A delay that
      never shrinks looks like a clock that is behind, and is taken for one: better late than never.
    - A step of a clock stops a camera for at most `DISBELIEF_S`; a step that makes ages smaller, not at all.

    Args:
        max_age_s: how much later than usual a frame may come; 0 for any age.
        max_cameras: cameras that are remembered; the one seen longest ago is forgotten.
    """

    def __init__(self, max_age_s: float, max_cameras: int) -> None:
        self._max_age_s = max_age_s
        self._max_cameras = max_cameras
        self._clocks: dict[Source, _Clock] = {}

    def is_stale(self, frame: Frame, wall: datetime, now_s: float) -> bool:
        """Say whether a frame is too old.

        Args:
            frame: any; a paced one is never too old.
            wall: our wall clock's time, UTC.
            now_s: time that is never stepped, in seconds.
        """
        if frame.paced or not self._max_age_s:
            return False
        age_s = (wall - frame.time).total_seconds()
        clock = self._clock(frame.source, age_s, now_s)
        if age_s > clock.offset.seconds + self._max_age_s:
            clock.disagrees(age_s, self._max_age_s, now_s)
        else:
            clock.agrees(age_s, now_s)
        return age_s - clock.offset_s > self._max_age_s

    def age_s(self, frame: Frame, wall: datetime) -> float:
        """Return a frame's age in seconds, corrected by the difference of the clocks as far as it is known.

        Args:
            frame: any.
            wall: our wall clock's time, UTC.
        """
        clock = self._clocks.get(frame.source)
        return (wall - frame.time).total_seconds() - (clock.offset_s if clock is not None else 0.0)

    def _clock(self, source: Source, age_s: float, now_s: float) -> _Clock:
        clock = self._clocks.pop(source, None) or _Clock(_Offset(age_s, now_s))
        self._clocks[source] = clock
        if len(self._clocks) > self._max_cameras:
            del self._clocks[next(iter(self._clocks))]
        return clock
