"""For how long faces are kept. No clock is read here: time is an argument."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.wire import times

FOREVER = "forever"
MOST_DAYS = 36_500
EXPIRED = "expired"
"""Why a face is refused, and let go of, that is older than faces are kept."""

STEP_S = 60.0
SETTLED_S = 900.0
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days faces are kept, from the moment that their frame was taken; nothing: for ever."""

    days: int | None = None

    def __str__(self) -> str:
        return FOREVER if self.days is None else f"{self.days} day{'s' if self.days > 1 else ''}"

    def limit(self, now: datetime) -> datetime | None:
        """Return the time before which whatever was taken is to go, UTC, or None if nothing is."""
        if self.days is None:
            return None
        # A clock that is not set yet may show any year.
        return now - timedelta(days=self.days) if now - _FIRST > timedelta(days=self.days) else _FIRST

    def is_over(self, since: datetime, now: datetime) -> bool:
        """Say whether what is kept since then is to go."""
        limit = self.limit(now)
        return limit is not None and since < limit

    def until(self, since: datetime) -> datetime | None:
        """Return until when at least it is kept, and a day longer at most, or None for ever."""
        return None if self.days is None else since + timedelta(days=self.days)


KEEP_FOREVER = Retention()
"""Nothing is let go of for its age."""


def parse_retention(text: str) -> Retention:
    """Read a number of days, or `forever`.

    Raises:
        ValueError: it is neither; says what is wanted.
    """
    if text == FOREVER:
        return KEEP_FOREVER
    if text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST_DAYS:
        return Retention(int(text))
    raise ValueError(f"a number of days from 1 to {MOST_DAYS} is wanted, or {FOREVER}")


def kept_since(taken: datetime, came: datetime, *, is_time_known: bool) -> datetime:
    """Return from when on the days of a face count.

    From when its frame was taken; where the camera did not know the time, from when the face came. It cannot
    have been taken after it came, whatever its camera's clock says.

    Args:
        taken: when the frame was, by the camera's clock.
        came: when the face came to whoever asks.
        is_time_known: whether the camera knew the time.
    """
    return min(taken, came) if is_time_known else came


class SettledClock:
    """Says whether a clock may be believed when it says that faces are old: what is let go of is gone.

    A clock that was just set, by a person or a server that is wrong, is often put right; so it has
    to have gone evenly for a while.

    Args:
        settled_s: for how long.
    """

    def __init__(self, settled_s: float = SETTLED_S) -> None:
        self._settled_s = settled_s
        self._ahead_s: float | None = None
        self._since_s = 0.0

    def time(self, wall_s: float, steady_s: float) -> datetime | None:
        """Return the time, UTC, if it may be believed.

        Args:
            wall_s: what the clock shows, Unix time.
            steady_s: what one shows that nobody sets.
        """
        ahead_s = wall_s - steady_s
        if self._ahead_s is None or abs(ahead_s - self._ahead_s) > STEP_S:
            self._ahead_s, self._since_s = ahead_s, steady_s
        return times.from_unix_s(wall_s) if steady_s - self._since_s >= self._settled_s else None
