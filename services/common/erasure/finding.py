"""Finds all copies of the selected faces in a store, versions and marks of deletions included."""

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from services.common.erasure.selection import Selection
from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index import rows as index_names
from services.common.storage.index.reading import RowQuery
from services.common.storage.index.reading import find as find_rows
from services.common.storage.keys import FaceKey, day_folder, face_in, id_time, parse_key
from services.common.storage.objects import Copy, NoSuchObject, WholeStore
from services.common.storage.visits import part_in
from services.common.wire.topics import Source

MOST_DAYS = 400
"""Of a range with more days everything is listed."""
AROUND_VISIT = timedelta(days=1)
ASKED_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """The selected faces in a store.

    Attributes:
        faces: by camera and id.
        copies: number of their copies: images, metadata, versions, marks of deletions.
    """

    faces: frozenset[tuple[Source, str]] = frozenset()
    copies: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted ids, a line each, by which their list can be verified later."""
        return hashlib.sha256("".join(f"{face_id}\n" for face_id in sorted(self.ids)).encode()).hexdigest()

    @property
    def ids(self) -> set[str]:
        """Their ids."""
        return {face_id for _, face_id in self.faces}


def days_of(selection: Selection) -> list[date] | None:
    """Return the days that may have selected faces, or None for an unbounded or long range."""
    if selection.is_range:
        if selection.since is None or selection.until is None:
            return None
        count = (selection.until.date() - selection.since.date()).days + 1
        return (
            None if count > MOST_DAYS else [selection.since.date() + timedelta(days=n) for n in range(count)]
        )
    days = {id_time(face_id).date() for face_id in selection.ids}
    if selection.visit is not None:
        began = id_time(selection.visit).date()
        days |= {began - AROUND_VISIT, began, began + AROUND_VISIT}
    return sorted(days)


async def with_members(store: WholeStore, selection: Selection) -> Selection:
    """Return a selection with the ids of all faces of its visit added.

    Keys have no visit, so the index is read, and the objects that it does not know.

    Raises:
        StoreUnavailable: they cannot be read.
    """
    if selection.visit is None:
        return selection
    first = id_time(selection.visit).date() - AROUND_VISIT
    wanted = RowQuery(selection.device, selection.camera, selection.visit, first=first)
    ids = set(selection.ids) | {row.id async for row in find_rows(store, wanted)}
    keys = {
        key
        async for copy in _under(store, selection)
        if (key := parse_key(copy.key)) is not None and key.id not in ids
    }

    async def ask(key: FaceKey) -> str | None:
        try:
            part = part_in(await store.about(str(key)))
        except NoSuchObject:
            return None
        is_one = part is not None and selection.takes(key.source, key.id, part.visit)
        return key.id if is_one else None

    asked = await ConcurrencyLimit(ASKED_AT_A_TIME).each(keys, ask)
    return replace(selection, ids=frozenset(ids | {face_id for face_id in asked if face_id is not None}))


async def copies_of(store: WholeStore, selection: Selection) -> AsyncIterator[tuple[Copy, FaceKey]]:
    """Yield every copy of every face of a selection; see `with_members`.

    Raises:
        StoreUnavailable: they cannot be listed.
    """
    async for copy in _under(store, selection):
        key = face_in(copy.key)
        if key is not None and selection.takes(key.source, key.id, None):
            yield copy, key


async def find_faces(store: WholeStore, selection: Selection) -> FoundFaces:
    """Return the selected faces that are stored; see `with_members`.

    Raises:
        StoreUnavailable: it cannot be listed.
    """
    faces: set[tuple[Source, str]] = set()
    copies = 0
    async for _, key in copies_of(store, selection):
        faces.add((key.source, key.id))
        copies += 1
    return FoundFaces(frozenset(faces), copies)


def index_folders(selection: Selection) -> Iterable[str]:
    """Return the folders of the index that may have selected faces."""
    days = days_of(selection)
    return [index_names.ROOT] if days is None else [index_names.day_folder(day) for day in days]


async def _under(store: WholeStore, selection: Selection) -> AsyncIterator[Copy]:
    days = days_of(selection)
    # A day with old versions only is in no listing of folders, so all days are tried.
    folders = [""] if days is None else [_narrowed(day, selection) for day in days]
    for folder in folders:
        async for copy in store.copies(folder):
            yield copy


def _narrowed(day: date, selection: Selection) -> str:
    folder = day_folder(day.isoformat())
    if selection.device is None:
        return folder
    folder = f"{folder}/device={selection.device}"
    return folder if selection.camera is None else f"{folder}/camera={selection.camera}"
