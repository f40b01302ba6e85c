"""Carries out an order in a store: removes all copies, and checks again until none is left.

It may be interrupted at any moment and repeated. An order is in the log before anything is removed, and is
carried out again until the log says that nothing is left.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.common.erasure.entries import EntryKind, LogEntry, Sign, unfinished
from services.common.erasure.finding import FoundFaces, copies_of, find_faces, index_folders, with_members
from services.common.erasure.ledger import Ledger
from services.common.erasure.selection import MOST_IDS, Selection, to_body
from services.common.storage.index import rows as index_names
from services.common.storage.index.reading import Index
from services.common.storage.index.repairs import remove_faces
from services.common.storage.index.rows import Hour
from services.common.storage.objects import Copy, WholeStore
from services.common.wire.topics import Source

AT_ONCE = 500
"""Copies removed in one batch."""
MOST_PASSES = 3
"""Further passes where copies came meanwhile, at most."""
SETTLE_S = 60.0
"""Seconds after which every store with the public key knows an order and has finished earlier writes."""


@dataclass(frozen=True, slots=True)
class Erased:
    """The result of an order.

    Attributes:
        order: its line in the log.
        faces: number of faces that were stored.
        copies: copies removed: images, their metadata, versions, marks of deletions.
        rows: rows removed from the index.
        left: copies that are still there.
        refused: number of copies that the store refused to remove, by reason.
    """

    order: LogEntry
    faces: int
    copies: int
    rows: int
    left: int
    refused: Mapping[str, int]


@dataclass(slots=True)
class _Done:
    """What was removed so far, and what the store refused to remove in the last pass."""

    faces: set[tuple[Source, str]] = field(default_factory=set)
    copies: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Eraser:
    """Erases faces from a store, and writes orders and results to the log.

    Args:
        store: holds the faces.
        ledger: the log, in the same store.
        sign: signs lines of the log.
        now: returns the time, UTC.
        wait: sleeps for seconds.
        settle_s: seconds between the first pass and the check for faces that were being written.
    """

    def __init__(
        self,
        store: WholeStore,
        ledger: Ledger,
        sign: Sign,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._sign = sign
        self._now = now
        self._wait = wait
        self._settle_s = settle_s

    async def order(self, selection: Selection) -> LogEntry:
        """Write an order to the log. It takes effect when this returns, even if the process ends.

        Raises:
            BrokenLog, StoreUnavailable: nothing was ordered.
        """
        whole = await with_members(self._store, selection)
        named = whole if len(whole.ids) <= MOST_IDS else selection
        return await self._ledger.append(EntryKind.ORDERED, to_body(named), self._sign, self._now())

    async def unfinished(self) -> list[LogEntry]:
        """Return the orders that are not finished, oldest first.

        Raises:
            BrokenLog, StoreUnavailable: the log cannot be read.
        """
        return unfinished(await self._ledger.entries())

    async def carry_out(self, order: LogEntry) -> Erased:
        """Erase the faces of an order, and write the result to the log.

        Raises:
            BrokenLog: the log was changed.
            StoreUnavailable: the store does not answer; the order stays unfinished.
        """
        selection = await with_members(self._store, order.selection)
        found = await find_faces(self._store, selection)
        await self._say(EntryKind.FOUND, order, found, {})
        done = _Done()
        await self._remove(selection, done)
        await self._wait(self._settle_s)
        for _ in range(MOST_PASSES):
            selection = await with_members(self._store, selection)
            await self._remove(selection, done)
            left = await find_faces(self._store, selection)
            if not left.copies or done.refused:
                break
        await self._store.clear_unfinished(self._now())
        refused = dict(sorted(done.refused.items()))
        faces = found.faces | done.faces
        more = {"left": left.copies, "refused": refused, "rows": done.rows}
        await self._say(EntryKind.ERASED, order, FoundFaces(faces, done.copies), more)
        return Erased(order, len(faces), done.copies, done.rows, left.copies, refused)

    async def take_reports(self) -> int:
        """Write new reports of devices to the log; return their number.

        Raises:
            BrokenLog, StoreUnavailable: the log or the reports cannot be read or written.
        """
        reports = await self._ledger.reports()
        for report in reports:
            about = {"of": report.order, "device": report.device, "gone": dict(report.gone)}
            await self._ledger.append(EntryKind.REPORTED, about, self._sign, self._now())
        return len(reports)

    async def _say(
        self, kind: EntryKind, order: LogEntry, found: FoundFaces, more: Mapping[str, object]
    ) -> None:
        about = {"of": order.name, "faces": len(found.faces), "copies": found.copies, "ids": found.digest}
        await self._ledger.append(kind, {**about, **more}, self._sign, self._now())

    async def _remove(self, selection: Selection, done: _Done) -> None:
        done.refused.clear()
        some: list[Copy] = []
        async for copy, key in copies_of(self._store, selection):
            done.faces.add((key.source, key.id))
            some.append(copy)
            if len(some) >= AT_ONCE:
                await self._remove_some(some, done)
                some = []
        await self._remove_some(some, done)
        for folder in index_folders(selection):
            await self._remove_rows(folder, selection, done)

    async def _remove_some(self, copies: Sequence[Copy], done: _Done) -> None:
        done.copies += len(copies) - await self._remove_copies(copies, done)

    async def _remove_copies(self, copies: Sequence[Copy], done: _Done) -> int:
        """Remove copies; return how many the store refuses to remove."""
        refused = await self._store.remove_copies(copies) if copies else {}
        done.refused.update(refused.values())
        return len(refused)

    async def _remove_rows(self, folder: str, selection: Selection, done: _Done) -> None:
        """Remove faces from the index, and all versions of the files that had them."""
        index = Index(self._store)
        days = await index.days() if folder == index_names.ROOT else [index_names.day_in(folder)]
        for day in days:
            assert day is not None
            for hour in await index.hours(day):
                done.rows += await self._leave_out(index, hour, selection)
        before = [copy async for copy in self._store.copies(folder)]
        current = {entry.key async for entry in self._store.entries(folder)}
        await self._remove_copies([copy for copy in before if copy.key not in current], done)

    async def _leave_out(self, index: Index, hour: Hour, selection: Selection) -> int:
        ids = {row.id for row in await index.rows(hour) if selection.takes(row.key.source, row.id, row.visit)}
        return (await remove_faces(self._store, hour, ids)).dropped if ids else 0


def chunked(selection: Selection) -> list[Selection]:
    """Return a selection as several where it has more than `MOST_IDS` ids."""
    ids = sorted(selection.ids)
    if len(ids) <= MOST_IDS:
        return [selection]
    return [replace(selection, ids=frozenset(ids[at : at + MOST_IDS])) for at in range(0, len(ids), MOST_IDS)]
