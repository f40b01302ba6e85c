"""Stored faces, listed newest first or looked up."""

import heapq
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple

import structlog

from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index.reading import Index
from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey, day_folder, day_in, parse_key, source_folder
from services.common.storage.objects import ObjectStore, StoreUnavailable, WholeStore
from services.common.wire.topics import Source

LISTINGS_AT_A_TIME = 16
MOST_LISTED = 16
"""With at most so many devices on a day the folder of each is listed, which shows the newest faces at once.
A day with more is read from the index, at a cost that does not grow with their number."""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A face in the store.

    Attributes:
        id: the face's id.
        time: when the frame was taken, UTC.
        device: the camera's device.
        camera: the camera.
        key: its name under the store's URL.
        bytes: size of the image.
    """

    id: str
    time: datetime
    device: str
    camera: str
    key: str
    bytes: int


class FaceName(NamedTuple):
    """What identifies a face."""

    device: str
    camera: str
    id: str


@dataclass(frozen=True, slots=True)
class _Head:
    """The newest face of a camera that was not yielded yet; sorts before older ones."""

    key: FaceKey
    size_bytes: int
    others: AsyncIterator[tuple[FaceKey, int]]

    def __lt__(self, other: "_Head") -> bool:
        return (self.key.id, self.key.source) > (other.key.id, other.key.source)


def last_day(today: date) -> date:
    """Return the last day that does not count as the future: clocks and their time zones differ."""
    return today + timedelta(days=1)


async def days_after(objects: ObjectStore, last: date) -> int:
    """Return how many days after a day have faces."""
    found = await objects.folders("", after=day_folder(last.isoformat()))
    return sum(day_in(path) is not None for path in found)


async def newest_first(
    objects: WholeStore, last: date | None = None, learn: Callable[[IndexRow], None] | None = None
) -> AsyncIterator[StoredFace]:
    """Yield all faces, newest first; little more is read than the caller takes.

    Args:
        objects: the store.
        last: leave out later days; None: none.
        learn: is called with the index's row of a face before that is yielded, where it came from the index.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    days = [
        path
        for path in await objects.folders("")
        if (day := day_in(path)) is not None and (last is None or day <= last)
    ]
    for folder in reversed(days):
        async for face in await _of_day(objects, folder, learn):
            yield face


async def _of_day(
    objects: WholeStore, folder: str, learn: Callable[[IndexRow], None] | None
) -> AsyncIterator[StoredFace]:
    day = day_in(folder)
    assert day is not None
    if len(await objects.folders(folder, most=MOST_LISTED + 1)) > MOST_LISTED:
        rows = Index(objects).newest_first(day)
        try:
            first = await anext(rows, None)
        except StoreUnavailable as error:
            log.warning("index.unreadable", reason=error.reason, detail=error.detail)
            first = None
        if first is not None:
            return _indexed(first, rows, learn)
    return _listed(objects, folder)


async def _indexed(
    first: IndexRow, others: AsyncIterator[IndexRow], learn: Callable[[IndexRow], None] | None
) -> AsyncIterator[StoredFace]:
    row: IndexRow | None = first
    while row is not None:
        if learn is not None:
            learn(row)
        yield _to_face(row.key, row.bytes)
        row = await anext(others, None)


async def _listed(objects: ObjectStore, folder: str) -> AsyncIterator[StoredFace]:
    turns = ConcurrencyLimit(LISTINGS_AT_A_TIME)
    of_devices = await turns.each(await objects.folders(folder), objects.folders)
    cameras = [from_end(objects, camera) for of_device in of_devices for camera in of_device]
    heads: list[_Head] = []
    await turns.each(cameras, partial(_push, heads))
    while heads:
        head = heapq.heappop(heads)
        yield _to_face(head.key, head.size_bytes)
        await _push(heads, head.others)


async def from_end(
    objects: ObjectStore, folder: str, *, before: str = "", at_once: int = 64
) -> AsyncIterator[tuple[FaceKey, int]]:
    """Yield the faces of a camera's day with their sizes in bytes, newest first.

    Args:
        objects: the store.
        folder: the camera's on that day.
        before: only names less than this; `""` for no bound.
        at_once: how many the caller is likely to take.
    """
    async for entry in objects.reverse_entries(folder, before=before, at_once=at_once):
        if (key := parse_key(entry.key)) is not None:
            yield key, entry.size_bytes


async def which_are_stored(objects: ObjectStore, faces: Iterable[FaceName]) -> set[FaceName]:
    """Return those of `faces` that are in the store: one listing for each camera and day among them."""
    by_folder: defaultdict[str, set[FaceName]] = defaultdict(set)
    for face in faces:
        by_folder[source_folder(Source(face.device, face.camera), face.id)].add(face)
    stored: set[FaceName] = set()
    for folder, wanted in by_folder.items():
        async for entry in objects.entries(folder):
            key = parse_key(entry.key)
            if key is not None:
                stored |= wanted & {FaceName(*key.source, key.id)}
    return stored


async def _push(heads: list[_Head], faces: AsyncIterator[tuple[FaceKey, int]]) -> None:
    async for key, size_bytes in faces:
        heapq.heappush(heads, _Head(key, size_bytes, faces))
        return


def _to_face(key: FaceKey, size_bytes: int) -> StoredFace:
    return StoredFace(key.id, key.time, key.source.device, key.source.camera, str(key), size_bytes)
