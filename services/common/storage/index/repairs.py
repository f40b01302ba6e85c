"""Brings the index up to date with the keys: each stored face is in it once, and no other.

A file is never changed. New ones are written, and then the files removed that they replace: after a crash in
between rows are there twice, which readers show once and the next repair removes.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index import rows
from services.common.storage.index.files import read_all
from services.common.storage.index.reading import READS_AT_A_TIME, Index, RowBuffer
from services.common.storage.index.rows import Hour, IndexFile, IndexRow
from services.common.storage.keys import day_folder, parse_key
from services.common.storage.objects import FileStore, NoSuchObject, WholeStore

REMOVED_AT_A_TIME = 16
ASKED_AT_ONCE = 1_024
"""Objects in one batch; they are read `READS_AT_A_TIME` at a time."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """The result of a repair of an hour, or of several.

    Attributes:
        faces: number of faces in the index now.
        added: faces that were stored and not in the index.
        dropped: faces that were in the index and not stored.
        files: number of files now.
        removed: the keys of the files that were removed.
    """

    faces: int = 0
    added: int = 0
    dropped: int = 0
    files: int = 0
    removed: tuple[str, ...] = ()

    def __add__(self, other: "Repaired") -> "Repaired":
        return Repaired(
            self.faces + other.faces,
            self.added + other.added,
            self.dropped + other.dropped,
            self.files + other.files,
            (*self.removed, *other.removed),
        )


async def tidy(files: FileStore, day: date) -> Repaired:
    """Merge the files of each hour of a day into one; the keys are not listed."""
    done = Repaired()
    for held in (await _held(Index(files), day)).values():
        if len(held) > 1:
            done += await _rewrite(files, held, await _rows(files, held))
        else:
            done += Repaired(faces=held[0].count, files=1) if held else Repaired()
    return done


async def repair(store: WholeStore, day: date, *, is_trusted: bool = True, may_ask: bool = True) -> Repaired:
    """Bring a day of the index up to date with the keys, which are listed; leave one file for each hour.

    Args:
        store: the store.
        day: UTC.
        is_trusted: whether to keep the index's metadata of faces that are stored.
        may_ask: whether to read the metadata of objects where they are not known, by a request each.
    """
    # All rows of the index were stored before now, so the listing shows them unless they were removed.
    held = await _held(Index(store), day)
    buffer = RowBuffer()
    async for row in _stored(store, day):
        buffer.add(row)
    done = Repaired()
    for hour in sorted({*held, *buffer.hours}):
        done += await _repair_hour(
            store, held.get(hour, []), buffer.take(hour), is_trusted=is_trusted, may_ask=may_ask
        )
    return done


async def remove_faces(files: FileStore, hour: Hour, ids: Collection[str]) -> Repaired:
    """Remove faces from an hour of the index, as when they are erased.

    A store may still write rows of them later; the next repair removes those.
    """
    held = await Index(files).files(hour.folder)
    found = await _rows(files, held)
    kept = [row for row in found if row.id not in ids]
    if len(kept) == len(found):
        return Repaired(faces=len(found), files=len(held))
    done = await _rewrite(files, held, kept)
    return done + Repaired(dropped=len(found) - len(kept))


async def _repair_hour(
    store: WholeStore, held: list[IndexFile], stored: list[IndexRow], *, is_trusted: bool, may_ask: bool
) -> Repaired:
    indexed = {row.id: row for row in await _rows(store, held)}
    right = [_known(row, indexed.get(row.id) if is_trusted else None) for row in stored]
    if may_ask:
        right = [row async for row in _asked(store, right)]
    changes = Repaired(
        added=sum(row.id not in indexed for row in right),
        dropped=len(indexed.keys() - {row.id for row in right}),
    )
    return await _rewrite(store, held, right) + changes


async def _rewrite(files: FileStore, held: Sequence[IndexFile], right: Iterable[IndexRow]) -> Repaired:
    """Replace the files of an hour by one file of these rows; by none without rows."""
    in_order = rows.sorted_unique(right)
    new_key = ""
    if in_order:
        body = rows.encode(in_order)
        new_key = rows.key_for(in_order, body)
        if all(file.key != new_key for file in held):
            await files.keep(new_key, body)
    removed = tuple(file.key for file in held if file.key != new_key)
    await ConcurrencyLimit(REMOVED_AT_A_TIME).each(removed, files.remove)
    return Repaired(faces=len(in_order), files=int(bool(in_order)), removed=removed)


async def _held(index: Index, day: date) -> dict[Hour, list[IndexFile]]:
    return {hour: await index.files(hour.folder) for hour in await index.hours(day)}


async def _rows(files: FileStore, held: Sequence[IndexFile]) -> list[IndexRow]:
    """Return the rows of files, without those that another repair removed: it adds the rows again."""

    async def those_of(file: IndexFile) -> list[IndexRow]:
        try:
            return await read_all(files, file)
        except NoSuchObject:
            return []

    found = await ConcurrencyLimit(READS_AT_A_TIME).each(held, those_of)
    return rows.sorted_unique(row for some in found for row in some)


async def _stored(store: WholeStore, day: date) -> AsyncIterator[IndexRow]:
    async for entry in store.entries(day_folder(day.isoformat())):
        if (key := parse_key(entry.key)) is not None:
            yield IndexRow.of(key, entry.size_bytes)


def _known(row: IndexRow, indexed: IndexRow | None) -> IndexRow:
    """Return a stored face's row, with the index's metadata where it has any."""
    if indexed is None or not indexed.known or indexed.key != row.key:
        return row
    return indexed._replace(bytes=row.bytes)


async def _asked(store: WholeStore, found: Sequence[IndexRow]) -> AsyncIterator[IndexRow]:
    """Yield rows, with metadata read from the objects where they were not known."""

    async def ask(row: IndexRow) -> IndexRow:
        try:
            return row.with_metadata(await store.about(str(row.key)))
        except NoSuchObject:
            return row

    for row in found:
        if row.known:
            yield row
    unknown = [row for row in found if not row.known]
    for start in range(0, len(unknown), ASKED_AT_ONCE):
        for row in await ConcurrencyLimit(READS_AT_A_TIME).each(unknown[start : start + ASKED_AT_ONCE], ask):
            yield row
