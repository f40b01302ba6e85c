"""The index is made true to the keys: what is stored is in it, once, and what is not stored is not.

A file is never changed. New ones are written, and then those removed whose rows they hold: a crash in between
leaves rows twice, which readers see once and the next repair leaves once.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index import rows
from services.common.storage.index.files import read_all
from services.common.storage.index.reading import READS_AT_A_TIME, Index, Stock
from services.common.storage.index.rows import Hour, IndexFile, Row
from services.common.storage.keys import day_folder, parse_key
from services.common.storage.objects import Files, NoSuchObject, WholeStore

REMOVED_AT_A_TIME = 16
ASKED_AT_ONCE = 1_024
"""Objects whose answers are waited for together; they are asked `READS_AT_A_TIME` at a time."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done to an hour, or to several.

    Attributes:
        faces: that are in the index now.
        added: that were stored and not in it.
        dropped: that were in it and not stored.
        files: that there are now.
        removed: the keys of the files that are not there any more.
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


async def tidy(files: Files, day: date) -> Repaired:
    """Make one file of each hour's of a day. The keys are not looked at."""
    done = Repaired()
    for held in (await _held(Index(files), day)).values():
        if len(held) > 1:
            done += await _rewrite(files, held, await _rows(files, held))
        else:
            done += Repaired(faces=held[0].count, files=1) if held else Repaired()
    return done


async def repair(store: WholeStore, day: date, *, is_trusted: bool = True, may_ask: bool = True) -> Repaired:
    """Make a day of the index true to the keys, which are listed; of each hour there is one file then.

    Args:
        store: the store.
        day: which.
        is_trusted: whether the index is believed what it says of faces that are stored; else all is new.
        may_ask: whether objects are asked what they say of themselves, where that is not known, by a request
            each.
    """
    # What the index says was stored before now: a listing from now on shows it, unless it was removed.
    held = await _held(Index(store), day)
    stock = Stock()
    async for row in _stored(store, day):
        stock.add(row)
    done = Repaired()
    for hour in sorted({*held, *stock.hours}):
        done += await _repair_hour(
            store, held.get(hour, []), stock.take(hour), is_trusted=is_trusted, may_ask=may_ask
        )
    return done


async def leave_out(files: Files, hour: Hour, ids: Collection[str]) -> Repaired:
    """Take faces out of an hour of the index, as when they are erased.

    What a store has not written yet it still writes: see `repairs`.
    """
    held = await Index(files).files(hour.folder)
    found = await _rows(files, held)
    kept = [row for row in found if row.id not in ids]
    if len(kept) == len(found):
        return Repaired(faces=len(found), files=len(held))
    done = await _rewrite(files, held, kept)
    return done + Repaired(dropped=len(found) - len(kept))


async def _repair_hour(
    store: WholeStore, held: list[IndexFile], stored: list[Row], *, is_trusted: bool, may_ask: bool
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


async def _rewrite(files: Files, held: Sequence[IndexFile], right: Iterable[Row]) -> Repaired:
    """Have one file of rows of one hour in place of those there are."""
    in_order = rows.tidied(right)
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


async def _rows(files: Files, held: Sequence[IndexFile]) -> list[Row]:
    """Return the rows of files. Where one is gone somebody else repairs: what is left out is added again."""

    async def those_of(file: IndexFile) -> list[Row]:
        try:
            return await read_all(files, file)
        except NoSuchObject:
            return []

    found = await ConcurrencyLimit(READS_AT_A_TIME).each(held, those_of)
    return rows.tidied(row for some in found for row in some)


async def _stored(store: WholeStore, day: date) -> AsyncIterator[Row]:
    async for entry in store.entries(day_folder(day.isoformat())):
        if (key := parse_key(entry.key)) is not None:
            yield Row.of(key, entry.size_bytes)


def _known(row: Row, indexed: Row | None) -> Row:
    """Return a stored face's row with what the index knows of it."""
    if indexed is None or not indexed.known or indexed.key != row.key:
        return row
    return indexed._replace(bytes=row.bytes)


async def _asked(store: WholeStore, found: Sequence[Row]) -> AsyncIterator[Row]:
    """Yield rows with what the objects say of themselves, where that was not known."""

    async def ask(row: Row) -> Row:
        try:
            return row.knowing(await store.about(str(row.key)))
        except NoSuchObject:
            return row

    for row in found:
        if row.known:
            yield row
    unknown = [row for row in found if not row.known]
    for start in range(0, len(unknown), ASKED_AT_ONCE):
        for row in await ConcurrencyLimit(READS_AT_A_TIME).each(unknown[start : start + ASKED_AT_ONCE], ask):
            yield row
