"""Reads the index, which may lag behind the keys; `repairs` brings it up to date."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import takewhile

from services.common.parquet import tables
from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index import rows
from services.common.storage.index.files import IdRange, newest_first, oldest_first, read_all, read_some
from services.common.storage.index.rows import Hour, IndexFile, IndexRow, sorted_unique
from services.common.storage.objects import FileStore, NoSuchObject, StoreUnavailable


class RowBuffer:
    """Collects rows by the hour, compressed: a large fleet has millions a day, listed device by device."""

    def __init__(self) -> None:
        self._open: defaultdict[Hour, list[IndexRow]] = defaultdict(list)
        self._packed: defaultdict[Hour, list[bytes]] = defaultdict(list)

    @property
    def hours(self) -> set[Hour]:
        """The hours with rows."""
        return {*self._open, *self._packed}

    def add(self, row: IndexRow) -> None:
        """Add a row."""
        hour = Hour.of(row.id)
        some = self._open[hour]
        some.append(row)
        if len(some) >= rows.GROUP_ROWS:
            self._packed[hour].append(rows.encode(some))
            some.clear()

    def take(self, hour: Hour) -> list[IndexRow]:
        """Remove and return an hour's rows, sorted by id, each face once."""
        packed = self._packed.pop(hour, [])
        unpacked = [
            row for body in packed for group in tables.read_footer(body) for row in rows.decode(group, body)
        ]
        return rows.sorted_unique([*unpacked, *self._open.pop(hour, [])])


READS_AT_A_TIME = 16
MOST_AT_ONCE = 8_192
TRIES = 3
"""A file may be replaced between listing and reading; its rows are in another file then."""


class Index:
    """Reads the index of a store: the hours of a day, the files of an hour, and their rows.

    The cost grows with the rows that are read, not with the number of devices.

    Args:
        files: the store.
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._turns = ConcurrencyLimit(READS_AT_A_TIME)

    async def days(self) -> list[date]:
        """Return the days in the index, sorted."""
        paths = await self._files.folders(rows.ROOT)
        return [day for path in paths if (day := rows.day_in(path)) is not None]

    async def hours(self, day: date) -> list[Hour]:
        """Return the hours of a day in the index, sorted."""
        paths = await self._files.folders(rows.day_folder(day))
        return [hour for path in paths if (hour := rows.hour_in(day, path)) is not None]

    async def files(self, folder: str) -> list[IndexFile]:
        """Return the files under a folder of the index, sorted by name."""
        found = [rows.parse(entry.key, entry.size_bytes) async for entry in self._files.entries(folder)]
        return sorted((file for file in found if file is not None), key=lambda file: file.key)

    async def latest(self, day: date, before: str, count: int) -> list[IndexRow]:
        """Return the last `count` faces of a day before an id or a time (`""`: its end), newest first."""
        span = IdRange(before=before)
        found: list[IndexRow] = []
        for hour in reversed(await self.hours(day)):
            if len(found) >= count:
                break
            if span.meets(*_ends(hour)):
                some = await self._within(hour, span, count - len(found), from_end=True)
                found += reversed(some)
        return found

    async def earliest(self, day: date, after: str, count: int) -> list[IndexRow]:
        """Return the first `count` faces of a day after an id or a time, oldest first."""
        span = IdRange(after=after)
        found: list[IndexRow] = []
        for hour in await self.hours(day):
            if len(found) >= count:
                break
            if span.meets(*_ends(hour)):
                found += await self._within(hour, span, count - len(found), from_end=False)
        return found

    async def newest_first(self, day: date, at_once: int = 64) -> AsyncIterator[IndexRow]:
        """Yield the faces of a day, newest first; little more is read than the caller takes.

        Args:
            day: UTC.
            at_once: how many the caller is likely to take.
        """
        for hour in reversed(await self.hours(day)):
            before = ""
            while some := await self._within(hour, IdRange(before=before), at_once, from_end=True):
                for row in reversed(some):
                    yield row
                before = some[0].id
                if len(some) < at_once:
                    break
                # A caller that took so many takes more, and the end of a file is read again each time.
                at_once = min(MOST_AT_ONCE, at_once * 8)

    async def rows(self, hour: Hour) -> list[IndexRow]:
        """Return all faces of an hour, oldest first, each once."""

        async def all_of(files: list[IndexFile]) -> list[IndexRow]:
            found = await self._turns.each(files, partial(read_all, self._files))
            return sorted_unique(row for some in found for row in some)

        return await self._looked(hour, all_of)

    async def counts(self, day: date) -> list[int]:
        """Return the number of faces in each hour of a day, from the files' names: 24 numbers.

        A face in two files counts twice until the index is repaired.
        """
        counts = [0] * 24
        for file in await self.files(rows.day_folder(day)):
            counts[int(file.first[9:11])] += file.count
        return counts

    async def _within(self, hour: Hour, span: IdRange, count: int, *, from_end: bool) -> list[IndexRow]:
        """Return the first or last faces of an hour in a range, oldest first."""
        order = newest_first if from_end else oldest_first
        return await self._looked(
            hour, lambda files: self._edge(order(files, span), span, count, from_end=from_end)
        )

    async def _edge(
        self, files: list[IndexFile], span: IdRange, count: int, *, from_end: bool
    ) -> list[IndexRow]:
        """Return the first or last faces of sorted files in a range, oldest first."""
        read = partial(read_some, self._files, span=span, count=count, from_end=from_end)
        found: list[IndexRow] = []
        while files:
            if len(found) >= count:
                edge = found[-count].id if from_end else found[count - 1].id
                files = list(takewhile(partial(_reaches, edge, from_end=from_end), files))
            some = _enough(files, count)
            read_now = await self._turns.each(some, read)
            found = sorted_unique([*found, *(row for each in read_now for row in each)])
            files = files[len(some) :]
        return found[-count:] if from_end else found[:count]

    async def _looked(
        self, hour: Hour, look: Callable[[list[IndexFile]], Awaitable[list[IndexRow]]]
    ) -> list[IndexRow]:
        """Read from an hour's files; list them again where one was replaced meanwhile."""
        for _ in range(TRIES):
            try:
                return await look(await self.files(hour.folder))
            except NoSuchObject as error:
                gone = error
        raise StoreUnavailable("bad_answer", f"{gone} is listed, and is not there")


def _ends(hour: Hour) -> tuple[str, str]:
    """Return two strings between which all ids of an hour are sorted."""
    begun = f"{hour.day:%Y%m%d}T{hour.hour:02}"
    return begun, f"{begun}~"


def _reaches(edge: str, file: IndexFile, *, from_end: bool) -> bool:
    """Say whether a file may have a face that comes before the id `edge` in reading order."""
    return f"{file.last}~" > edge if from_end else file.first < edge


def _enough(files: list[IndexFile], count: int) -> list[IndexFile]:
    """Return the first files that have `count` faces together, by their names."""
    some: list[IndexFile] = []
    left = count
    for file in files:
        if left <= 0 or len(some) == READS_AT_A_TIME:
            break
        some.append(file)
        left -= file.count
    return some


@dataclass(frozen=True, slots=True)
class RowQuery:
    """A query for faces; all conditions that are not None must hold.

    Attributes:
        device: of this device.
        camera: of a camera of this name.
        visit: of this visit.
        first: of this day, UTC, or later.
        last: of this day or earlier.
    """

    device: str | None = None
    camera: str | None = None
    visit: str | None = None
    first: date | None = None
    last: date | None = None

    def takes(self, row: IndexRow) -> bool:
        """Say whether a face matches, its day aside."""
        return (
            self.device in (None, row.device)
            and self.camera in (None, row.camera)
            and self.visit in (None, row.visit)
        )

    def takes_day(self, day: date) -> bool:
        """Say whether faces of a day may match."""
        return (self.first or date.min) <= day <= (self.last or date.max)


async def find(files: FileStore, wanted: RowQuery) -> AsyncIterator[IndexRow]:
    """Yield the faces of the index that match a query, oldest first, each face once.

    All files of the days are read. The index may lag, and has no visit of a face that is not `known`: repair
    the days before where no face may be missed.

    Args:
        files: the store.
        wanted: the query.
    """
    index = Index(files)
    for day in await index.days():
        if wanted.takes_day(day):
            for hour in await index.hours(day):
                for row in await index.rows(hour):
                    if wanted.takes(row):
                        yield row
