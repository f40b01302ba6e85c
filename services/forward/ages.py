"""For how long faces are held, though clocks are set. No clock is read here."""

import itertools
from collections import deque
from typing import NamedTuple

RIGHT_SINCE_S = 1_735_689_600.0
"""2025-01-01, Unix time: a clock that shows less has not been set, for this program is younger."""
_FINEST_S = 1.0
_MOST_MARKS = 4_096


def waited_s(since_s: float | None, wall_s: float) -> float | None:
    """Return how long ago something was by the wall clock; nothing where one of the two times is none.

    Args:
        since_s: when it was, as the wall clock of that time had it, Unix time.
        wall_s: what it shows now.
    """
    if since_s is None or not RIGHT_SINCE_S <= since_s <= wall_s:
        return None
    return wall_s - since_s


class _Mark(NamedTuple):
    """Up to this place all that is held was there at this moment of the steady clock."""

    sequence: int
    steady_s: float


class Ages:
    """Knows for how long faces are held, by the steady clock.

    A wall clock is set while faces wait: by years after a boot without a battery, by an hour by people.
    So what comes in is remembered by place and steady time, about each second, coarser when it becomes much.
    Of what was there at the start only the wall clock can tell how long it has been; it is believed once, as
    soon as it can be right, and never less is said than since the start.

    Args:
        last_sequence: the place of the newest face that is there at the start; 0 if there is none.
        steady_s: now.
    """

    def __init__(self, last_sequence: int, steady_s: float) -> None:
        self._marks = deque([_Mark(last_sequence, steady_s)])
        self._fineness_s = _FINEST_S
        self._last_at_start = last_sequence
        self._started_s = steady_s
        self._wall_at_start_s: float | None = None

    def came(self, sequence: int, steady_s: float) -> None:
        """Note that what stands up to this place is there now."""
        if sequence <= self._marks[-1].sequence:
            return
        self._add(_Mark(sequence, steady_s))
        if len(self._marks) > _MOST_MARKS:
            self._fineness_s *= 2
            marks, self._marks = self._marks, deque([self._marks[0]])
            for mark in itertools.islice(marks, 1, None):
                self._add(mark)

    def oldest_s(self, sequence: int, held_since_s: float | None, wall_s: float, steady_s: float) -> float:
        """Return for how long the oldest face is held, in seconds, never below 0.

        What stood before it is forgotten.

        Args:
            sequence: its place.
            held_since_s: since when its row says, Unix time.
            wall_s: what the wall clock shows.
            steady_s: now.
        """
        while len(self._marks) > 1 and self._marks[0].sequence < sequence:
            self._marks.popleft()
        if len(self._marks) == 1:
            self._fineness_s = _FINEST_S
        here_s = max(0.0, steady_s - self._marks[0].steady_s)
        if sequence > self._last_at_start:
            return here_s
        return max(here_s, self._by_wall_clock(held_since_s, wall_s, steady_s))

    def _by_wall_clock(self, held_since_s: float | None, wall_s: float, steady_s: float) -> float:
        """Return how long ago it was by the wall clock at the start, moved on by the steady one since."""
        elapsed_s = steady_s - self._started_s
        if self._wall_at_start_s is None and waited_s(held_since_s, wall_s) is not None:
            self._wall_at_start_s = wall_s - elapsed_s
        if self._wall_at_start_s is None:
            return 0.0
        return waited_s(held_since_s, self._wall_at_start_s + elapsed_s) or 0.0

    def _add(self, mark: _Mark) -> None:
        """Add a mark; what comes soon after another counts as come with it."""
        newest = self._marks[-1]
        if mark.steady_s - newest.steady_s < self._fineness_s and newest.sequence > self._last_at_start:
            self._marks[-1] = _Mark(mark.sequence, newest.steady_s)
        else:
            self._marks.append(mark)
