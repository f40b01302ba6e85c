"""When a live camera's next picture is worth sending: by its own rate, and as detect's answers say it."""

import math

from services.common.wire.frames import MOST_NEXT_S

HEADROOM = 1.5


def decoded_fps(fps: float | None, looks_per_s: float) -> float | None:
    """Return how many of a live camera's decoded pictures are worth carrying, a second, or None for all.

    A raw picture goes through two copies and a conversion, looked at or not: of those that come to nothing in
    any case most are left out at once. Some more than are asked for remain to be chosen from.

    Args:
        fps: what the user allows, if anything is said.
        looks_per_s: how often is usual where somebody is; 0: each frame.
    """
    return (fps or looks_per_s) * HEADROOM or None


class RateLimit:
    """Lets through at most so many pictures a second, evenly, and none too few because of jitter.

    Args:
        fps: pictures per second; nothing: all of them.
    """

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1 / fps if fps else 0.0
        self._due_s: float | None = None

    def admits(self, now_s: float) -> bool:
        """Say whether the picture of this moment goes on. `now_s` may be media time or a steady clock."""
        if self._due_s is None:
            self._due_s = now_s
        # A picture that comes a little early must not make the next one, a whole period later, its stand-in.
        if now_s < self._due_s - 0.25 * self._interval_s:
            return False
        is_late = now_s > self._due_s + self._interval_s
        self._due_s = (now_s if is_late else self._due_s) + self._interval_s
        return True


MOST_PERIOD_S = 0.5
"""A camera that pauses for longer has not become a slower one."""
MARGIN_S = 0.005
"""By so much earlier than a picture could be due it is waited for."""
_MEMORY = 32
"""Of so many pictures, at most, the mean period is: they may be read several at a time."""


class Pace:
    """Holds back pictures for as long as the last answer says, counted from the picture that went out last.

    A picture is due from half a camera's period before that time on, and what it comes too soon or too late
    the next one waits longer or less, so that on the average there are as many as are asked for. Until the
    next answer, the same holds after the next picture: a detect that is slow is not to be given more for it.
    Before the first answer, and when answers fail to come, each picture is due.

    Args:
        most_s: for longer no answer holds a picture back; 0 where the user has said how many go out.
    """

    def __init__(self, most_s: float = MOST_NEXT_S) -> None:
        self._most_s = most_s
        self._period = _Period()
        self._pause_s = 0.0
        self._from_s = -math.inf
        self._answered = -1

    def is_due(self, came_s: float) -> bool:
        """Say whether the picture that comes at this moment is worth sending; to be asked once of each.

        Args:
            came_s: now, by a clock that is never set, in seconds.
        """
        self._period.note(came_s)
        return came_s >= self._due_s

    def idle_s(self, now_s: float) -> float:
        """Return for how long no picture that comes will be due."""
        return max(0.0, self._due_s - MARGIN_S - now_s)

    def sent(self, came_s: float) -> None:
        """Note that the picture that came at this moment goes out."""
        is_as_planned = abs(came_s - self._planned_s) <= self._period.mean_s
        self._from_s = self._planned_s if is_as_planned else came_s

    def answered(self, sequence: int, next_s: float | None) -> None:
        """Take an answer; one that was overtaken by a later frame's says nothing of what is due now.

        Args:
            sequence: the number of its frame.
            next_s: for how long no picture is worth sending; nothing where detect does not say.
        """
        if sequence >= self._answered:
            self._answered, self._pause_s = sequence, min(self._most_s, next_s or 0.0)

    @property
    def _planned_s(self) -> float:
        return self._from_s + self._pause_s

    @property
    def _due_s(self) -> float:
        return self._planned_s - self._period.mean_s / 2

    def forget(self) -> None:
        """Have the next picture sent: nobody knows what has become of the last."""
        self._pause_s = 0.0
        self._from_s = -math.inf
        self._answered = -1


class _Period:
    """The mean time from one picture of a camera to the next, in seconds; 0 while nothing is known of it."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._since_s = self._last_s = -math.inf
        self._count = 0.0

    def note(self, came_s: float) -> None:
        """Take a picture that comes."""
        if came_s - self._last_s > MOST_PERIOD_S:
            self._since_s, self._count = came_s, 0.0
        else:
            self._count += 1
            self.mean_s = (came_s - self._since_s) / self._count
        if self._count >= _MEMORY:
            self._since_s, self._count = (self._since_s + came_s) / 2, self._count / 2
        self._last_s = came_s
