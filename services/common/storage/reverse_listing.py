"""A folder's names in reverse order, from a store that lists only forward, as S3 does.

Names in a day's folder begin with times. So the day is listed in spans of time, from its end backwards, each
once, until the caller stops; what is read grows with what is taken, not with the day.
"""

import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from services.common.errors import Refused
from services.common.storage.keys import id_time
from services.common.storage.objects import ListedObject
from services.common.wire import times

FIRST_SPAN = timedelta(minutes=15)
"""One answer of S3 (1,000 names) holds as much of a camera that sees 100,000 faces a day."""
SHORTEST_SPAN = timedelta(milliseconds=1)
"""A shorter span is listed whole: it cannot hold many names."""
WIDEN_BY = 8
"""How much longer a span may be than the one before it, at most."""
WANTED_AT_A_LOOK = 700
MOST_AT_A_LOOK = 1_000
"""Names in one answer of S3. Where a span has more, only its later part is listed."""


class ForwardListing(Protocol):
    """Returns the first `count` entries between two names (see `ObjectStore.first`)."""

    def __call__(self, count: int, *, after: str, before: str) -> Awaitable[list[ListedObject]]: ...  # noqa: D102


@dataclass(slots=True)
class _Span:
    """The span to list next, from `start` up to `end`, whose name is `bound`.

    Attributes:
        busy_until: a time before `start` that many names are known to lie before; None if none is known.
        pace: the time just before `busy_until` in which one full answer of names was taken.
    """

    start: datetime
    end: datetime
    bound: str
    busy_until: datetime | None = None
    pace: timedelta = SHORTEST_SPAN


async def reverse_entries(forward: ForwardListing, day: date, before: str) -> AsyncIterator[ListedObject]:
    """Yield the entries before a name, the last first.

    Args:
        forward: lists a folder of that day.
        day: the day of the folder, UTC.
        before: only names less than this; `""` for no bound.
    """
    day_start = times.midnight(day)
    span = _first_span(day_start, before)
    is_through = False
    while not is_through:
        # The first span of the day begins with the first name of all, whatever that is.
        after = "" if span.start == day_start else times.compact(span.start)
        most = MOST_AT_A_LOOK if span.end - span.start > SHORTEST_SPAN else sys.maxsize
        look = await forward(most, after=after, before=span.bound)
        if len(look) == most:
            if _narrow(span, look):
                continue
            look = await forward(sys.maxsize, after=after, before=span.bound)
        for entry in reversed(look):
            yield entry
        is_through = span.start == day_start
        _step_back(span, day_start, len(look))


def _first_span(day_start: datetime, before: str) -> _Span:
    # One microsecond less, because the last day that a date can have has none after it.
    end = day_start + timedelta(days=1, microseconds=-1)
    with suppress(Refused):  # a bound that is no time bounds the names alone
        end = min(end, id_time(before)) if before else end
    return _Span(max(day_start, end - FIRST_SPAN), end, before)


def _narrow(span: _Span, look: list[ListedObject]) -> bool:
    """Shorten the span to its later part, because it has more names; say whether that was possible."""
    first, busy_until = _time_of(look[0]), _time_of(look[-1])
    if first is None or busy_until is None or not span.start <= first <= busy_until < span.end:
        return False  # those are no faces of that day
    span.busy_until, span.pace = busy_until, busy_until - first
    span.start = busy_until + (span.end - busy_until) / 2
    return True


def _step_back(span: _Span, day_start: datetime, count: int) -> None:
    """Set the span before the one that was listed, which had `count` names."""
    breadth = (span.end - span.start) * (min(WIDEN_BY, WANTED_AT_A_LOOK / count) if count else WIDEN_BY)
    begun = times.compact(span.start)
    # A bound that is no time may lie before the day's every name.
    span.end, span.bound = span.start, min(begun, span.bound or begun)
    if span.busy_until is None or span.busy_until >= span.end:
        span.start, span.busy_until = max(day_start, span.end - max(breadth, SHORTEST_SPAN)), None
    elif span.end - span.busy_until > max(span.pace, SHORTEST_SPAN):
        span.start = span.busy_until + (span.end - span.busy_until) / 2
    else:
        span.start, span.busy_until = span.busy_until, None


def _time_of(entry: ListedObject) -> datetime | None:
    try:
        return id_time(entry.key.rpartition("/")[2])
    except Refused:
        return None
