"""Reads parts of a camera's day, and keeps whether the store can be read."""

from collections.abc import AsyncIterator

from services.common.storage import listing
from services.common.storage.keys import FaceKey, hour_in, parse_key
from services.common.storage.objects import ObjectStore
from services.common.storage.store_health import StoreHealth
from services.gallery.metrics import STORE_AVAILABLE


class ReadHealth(StoreHealth):
    """Whether the last read of the store succeeded; logs changes."""

    def __init__(self) -> None:
        super().__init__(STORE_AVAILABLE, "gallery.store_available", "gallery.store_unavailable")


QUARTERS = 96
"""Quarters of an hour in a day."""
LAST = "~"
"""Sorts after every character of a name."""


async def latest(objects: ObjectStore, folder: str, *, before: str | None, count: int) -> list[FaceKey]:
    """Return the last faces of a camera's day, newest first.

    Args:
        objects: the store.
        folder: of the camera on that day.
        before: only faces before this id or time (see `times.compact`); None: up to the day's end.
        count: faces, at most.
    """
    found: list[FaceKey] = []
    async for key, _size_bytes in listing.from_end(objects, folder, before=before or "", at_once=count):
        found.append(key)
        if len(found) == count:
            break
    return found


async def earliest(objects: ObjectStore, folder: str, *, after: str, count: int) -> list[FaceKey]:
    """Return the first `count` faces of a camera's day after an id or a time, oldest first."""
    return await onward(objects, folder, f"{after}{LAST}", count)


async def onward(objects: ObjectStore, folder: str, start: str, count: int) -> list[FaceKey]:
    """Return the first `count` faces of a camera's day from a time on, oldest first."""
    found: list[FaceKey] = []
    bound = start
    while len(found) < count:
        entries = await objects.first(folder, count, after=bound)
        found += [key for entry in entries if (key := parse_key(entry.key)) is not None]
        if len(entries) < count:
            break
        bound = entries[-1].key.rpartition("/")[2]
    return found[:count]


async def between(objects: ObjectStore, folder: str, first: str, last: str) -> AsyncIterator[FaceKey]:
    """Yield a camera's faces from one id to another, both included, in any order."""
    async for names in objects.names(folder, after=first, before=f"{last}{LAST}"):
        for name in names:
            if (key := parse_key(f"{folder}/{name}")) is not None:
                yield key


async def quarters(objects: ObjectStore, folder: str) -> list[int]:
    """Count the faces of a camera's day by the quarter of an hour, UTC: 96 numbers. All of it is listed."""
    counts = [0] * QUARTERS
    async for names in objects.names(folder):
        for name in names:
            if (hour := hour_in(name)) is not None:
                counts[4 * hour + int(name[11:13]) // 15] += 1
    return counts
