"""How long faces are kept. Pure: time is an argument."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.wire import times

FOREVER = "forever"
MOST_DAYS = 36_500
EXPIRED = "expired"
"""The reason for which a face is refused or deleted that is older than faces are kept."""

STEP_S = 60.0
"""A clock that differs by more from a steady one than before was set."""
SETTLED_S = 900.0
"""How long a clock must not have been set before it is trusted, seconds."""
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days faces are kept, from when their frame was taken; None: for ever."""

    days: int | None = None

    def __str__(self) -> str:
        return FOREVER if self.days is None else f"{self.days} day{'s' if self.days > 1 else ''}"

    def limit(self, now: datetime) -> datetime | None:
        """Return the time, UTC, such that faces taken before it are to be deleted; None: none is."""
        if self.days is None:
            return None
        # A clock that was never set may show any year.
        return now - timedelta(days=self.days) if now - _FIRST > timedelta(days=self.days) else _FIRST

    def is_over(self, since: datetime, now: datetime) -> bool:
        """Return whether a face kept since then is to be deleted."""
        limit = self.limit(now)
        return limit is not None and since < limit

    def until(self, since: datetime) -> datetime | None:
        """Return until when a face is kept at least (a day longer at most), or None for ever."""
        return None if self.days is None else since + timedelta(days=self.days)


KEEP_FOREVER = Retention()
"""Nothing is deleted for its age."""


def parse_retention(text: str) -> Retention:
    """Parse a number of days, or `forever`.

    Raises:
        ValueError: it is neither; the message is for users.
    """
    if text == FOREVER:
        return KEEP_FOREVER
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST_DAYS:
        return Retention(int(text))
    raise ValueError(f"a number of days from 1 to {MOST_DAYS} is wanted, or {FOREVER}")


def kept_since(taken: datetime, came: datetime, *, is_time_known: bool) -> datetime:
    """Return the time from which the days of a face count.

    That is when its frame was taken or, if the camera's clock was not synchronised, when the face came; never
    later than it came, whatever the camera's clock says.

    Args:
        taken: when the frame was taken, by the camera's clock.
        came: when the face came to the caller.
        is_time_known: whether the camera's clock was synchronised.
    """
    return min(taken, came) if is_time_known else came


class SettledClock:
    """Says whether a clock may be trusted to delete old faces, which cannot be undone.

    A clock that was set wrongly, by a person or a time server, is usually corrected soon; so it must not have
    been set for a while.

    Args:
        settled_s: for how long, seconds.
    """

    def __init__(self, settled_s: float = SETTLED_S) -> None:
        self._settled_s = settled_s
        self._ahead_s: float | None = None
        self._since_s = 0.0

    def time(self, wall_s: float, steady_s: float) -> datetime | None:
        """Return the time, UTC, or None while the clock is not trusted. To be called regularly.

        Args:
            wall_s: the clock's time, Unix time.
            steady_s: the time of a steady clock, seconds.
        """
        ahead_s = wall_s - steady_s
        if self._ahead_s is None or abs(ahead_s - self._ahead_s) > STEP_S:
            self._ahead_s, self._since_s = ahead_s, steady_s
        return times.from_unix_s(wall_s) if steady_s - self._since_s >= self._settled_s else None
