"""A page's worth out of a camera's day. What is read grows with the page, not with the day or the bucket."""

from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta

from services.common import times
from services.common.storage.keys import FaceKey, id_time, parse_key
from services.common.storage.objects import Entry, ObjectStore
from services.gallery.selection import day_after, midnight

FIRST_SPAN = timedelta(minutes=15)
"""One answer of S3 (1,000 keys) holds as much of a camera that sees 100,000 faces a day."""
SHORTEST_SPAN = timedelta(seconds=1)
WIDER = 8
"""How much further each look back goes than the one before it."""
MOST_AT_A_LOOK = 4_000
"""Keys. Where a span has more, only its later part is looked at."""

_LAST = "~"
"""Sorts behind everything that may follow in a name."""


async def latest(
    objects: ObjectStore, folder: str, day: date, *, before: str | None, count: int
) -> list[FaceKey]:
    """Return the last faces of a camera's day, newest first.

    Stores list forward only. So the day is looked at in spans of time that lie further and further back, each
    once, until there are enough.

    Args:
        objects: the store.
        folder: the camera's on that day.
        day: the day.
        before: only faces before this id or time (see `times.compact`); nothing for the day's end.
        count: at most so many.
    """
    found: list[FaceKey] = []
    first = midnight(day)
    end, bound = _end(day, before)
    span = FIRST_SPAN
    start, crowd = max(first, end - span), first
    while len(found) < count and end > first:
        most = MOST_AT_A_LOOK if end - start > SHORTEST_SPAN else None
        after = "" if start == first else times.compact(start)
        look = [key async for key in _upto(_faces(objects, folder, after, bound), most)]
        if len(look) == most:
            # There is more behind the last one that was read: the end of the span is what is wanted.
            crowd = look[-1].time
            start = crowd + (end - crowd) / 2
            continue
        found += reversed(look)
        end, bound = start, times.compact(start)
        if crowd < end and crowd != first:
            start = crowd
        else:
            span, crowd = span * WIDER, first
            start = max(first, end - span)
    return found[:count]


async def earliest(objects: ObjectStore, folder: str, *, after: str, count: int) -> list[FaceKey]:
    """Return the first faces of a camera's day behind an id or a time, oldest first; at most `count`."""
    return [key async for key in _upto(_faces(objects, folder, f"{after}{_LAST}", ""), count)]


async def between(objects: ObjectStore, folder: str, first: str, last: str) -> AsyncIterator[FaceKey]:
    """Yield a camera's faces from an id to an id, both included, oldest first."""
    async for key in _faces(objects, folder, first, f"{last}{_LAST}"):
        yield key


async def hours(objects: ObjectStore, folder: str) -> list[int]:
    """Count the faces of a camera's day by the hour, UTC: 24 numbers. All of the day is listed."""
    counts = [0] * 24
    async for key in _faces(objects, folder, "", ""):
        counts[key.time.hour] += 1
    return counts


def _end(day: date, before: str | None) -> tuple[datetime, str]:
    """Return the end of the part of a day that is looked at, and the name that bounds it."""
    if before is None:
        return day_after(day), ""
    return min(id_time(before), day_after(day)), before


async def _faces(objects: ObjectStore, folder: str, after: str, before: str) -> AsyncIterator[FaceKey]:
    async for entry in objects.within(folder, after=after, before=before):
        if (key := _parse(entry)) is not None:
            yield key


async def _upto(keys: AsyncIterator[FaceKey], count: int | None) -> AsyncIterator[FaceKey]:
    """Yield the first `count` of them; all where nothing is said."""
    number = 0
    async for key in keys:
        yield key
        number += 1
        if number == count:
            return


def _parse(entry: Entry) -> FaceKey | None:
    return parse_key(entry.key)
