"""What the index says. It may lag behind the keys, and is made true to them: see `repairs`."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import takewhile

from services.common.parquet import tables
from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.index import rows
from services.common.storage.index.files import Span, newest_first, oldest_first, read_all, read_some
from services.common.storage.index.rows import Hour, IndexFile, Row, tidied
from services.common.storage.objects import Files, NoSuchObject, StoreUnavailable


class Stock:
    """Rows by the hour, packed: a day of a large fleet has millions, and they come device by device."""

    def __init__(self) -> None:
        self._open: defaultdict[Hour, list[Row]] = defaultdict(list)
        self._packed: defaultdict[Hour, list[bytes]] = defaultdict(list)

    @property
    def hours(self) -> set[Hour]:
        """The hours that there are rows of."""
        return {*self._open, *self._packed}

    def add(self, row: Row) -> None:
        """Add a row."""
        hour = Hour.of(row.id)
        some = self._open[hour]
        some.append(row)
        if len(some) >= rows.GROUP_ROWS:
            self._packed[hour].append(rows.encode(some))
            some.clear()

    def take(self, hour: Hour) -> list[Row]:
        """Return an hour's rows by their ids, each face once, and forget them."""
        packed = self._packed.pop(hour, [])
        unpacked = [
            row for body in packed for group in tables.read_footer(body) for row in rows.decode(group, body)
        ]
        return rows.tidied([*unpacked, *self._open.pop(hour, [])])


READS_AT_A_TIME = 16
MOST_AT_ONCE = 8_192
TRIES = 3
"""A file may be gone between its listing and its reading: its rows are in another by then."""


class Index:
    """Reads the index of a store: of each day the hours, of each hour the files, of these what is wanted.

    What a look costs grows with what is wanted of it, not with the devices.

    Args:
        files: the store.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._turns = ConcurrencyLimit(READS_AT_A_TIME)

    async def days(self) -> list[date]:
        """Return the days that it knows anything of, in order."""
        paths = await self._files.folders(rows.ROOT)
        return [day for path in paths if (day := rows.day_in(path)) is not None]

    async def hours(self, day: date) -> list[Hour]:
        """Return the hours of a day that it knows anything of, in order."""
        paths = await self._files.folders(rows.day_folder(day))
        return [hour for path in paths if (hour := rows.hour_in(day, path)) is not None]

    async def files(self, folder: str) -> list[IndexFile]:
        """Return the files under a folder of the index, by their names."""
        found = [rows.parse(entry.key, entry.size_bytes) async for entry in self._files.entries(folder)]
        return sorted((file for file in found if file is not None), key=lambda file: file.key)

    async def latest(self, day: date, before: str, count: int) -> list[Row]:
        """Return the last faces of a day before an id or a time (`""`: its end), newest first."""
        span = Span(before=before)
        found: list[Row] = []
        for hour in reversed(await self.hours(day)):
            if len(found) >= count:
                break
            if span.meets(*_ends(hour)):
                some = await self._within(hour, span, count - len(found), from_end=True)
                found += reversed(some)
        return found

    async def earliest(self, day: date, after: str, count: int) -> list[Row]:
        """Return the first faces of a day behind an id or a time, oldest first."""
        span = Span(after=after)
        found: list[Row] = []
        for hour in await self.hours(day):
            if len(found) >= count:
                break
            if span.meets(*_ends(hour)):
                found += await self._within(hour, span, count - len(found), from_end=False)
        return found

    async def newest_first(self, day: date, at_once: int = 64) -> AsyncIterator[Row]:
        """Yield the faces of a day, newest first; little more is read than is taken.

        Args:
            day: which.
            at_once: how many are likely to be taken.
        """
        for hour in reversed(await self.hours(day)):
            before = ""
            while some := await self._within(hour, Span(before=before), at_once, from_end=True):
                for row in reversed(some):
                    yield row
                before = some[0].id
                if len(some) < at_once:
                    break
                # Whoever has taken so many takes more, and the end of a file is read anew each time.
                at_once = min(MOST_AT_ONCE, at_once * 8)

    async def rows(self, hour: Hour) -> list[Row]:
        """Return all faces of an hour, oldest first, each once."""

        async def all_of(files: list[IndexFile]) -> list[Row]:
            found = await self._turns.each(files, partial(read_all, self._files))
            return tidied(row for some in found for row in some)

        return await self._looked(hour, all_of)

    async def counts(self, day: date) -> list[int]:
        """Return how many faces there are in each hour of a day, by the files' names: 24 numbers.

        Where a face is in two files it counts twice, until that is repaired.
        """
        counts = [0] * 24
        for file in await self.files(rows.day_folder(day)):
            counts[int(file.first[9:11])] += file.count
        return counts

    async def _within(self, hour: Hour, span: Span, count: int, *, from_end: bool) -> list[Row]:
        """Return the first or last faces of an hour within bounds, oldest first."""
        order = newest_first if from_end else oldest_first
        return await self._looked(
            hour, lambda files: self._edge(order(files, span), span, count, from_end=from_end)
        )

    async def _edge(self, files: list[IndexFile], span: Span, count: int, *, from_end: bool) -> list[Row]:
        """Return the first or last faces of files in that order within bounds, oldest first."""
        read = partial(read_some, self._files, span=span, count=count, from_end=from_end)
        found: list[Row] = []
        while files:
            if len(found) >= count:
                edge = found[-count].id if from_end else found[count - 1].id
                files = list(takewhile(partial(_reaches, edge, from_end=from_end), files))
            some = _enough(files, count)
            read_now = await self._turns.each(some, read)
            found = tidied([*found, *(row for each in read_now for row in each)])
            files = files[len(some) :]
        return found[-count:] if from_end else found[:count]

    async def _looked(self, hour: Hour, look: Callable[[list[IndexFile]], Awaitable[list[Row]]]) -> list[Row]:
        """Return what a look at an hour's files shows; they are listed anew where one is gone meanwhile."""
        for _ in range(TRIES):
            try:
                return await look(await self.files(hour.folder))
            except NoSuchObject as error:
                gone = error
        raise StoreUnavailable("bad_answer", f"{gone} is listed, and is not there")


def _ends(hour: Hour) -> tuple[str, str]:
    """Return what ids of an hour lie between."""
    begun = f"{hour.day:%Y%m%d}T{hour.hour:02}"
    return begun, f"{begun}~"


def _reaches(edge: str, file: IndexFile, *, from_end: bool) -> bool:
    """Say whether a file may have a face on the near side of one that is at the edge of what was found."""
    return f"{file.last}~" > edge if from_end else file.first < edge


def _enough(files: list[IndexFile], count: int) -> list[IndexFile]:
    """Return the first files that have so many faces together, as far as their names tell."""
    some: list[IndexFile] = []
    left = count
    for file in files:
        if left <= 0 or len(some) == READS_AT_A_TIME:
            break
        some.append(file)
        left -= file.count
    return some


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which faces are asked for: all that agree with what is named.

    Attributes:
        device: of this device.
        camera: of its, or of each device's, camera of this name.
        visit: of this visit.
        first: of this day, UTC, or later.
        last: of this day or earlier.
    """

    device: str | None = None
    camera: str | None = None
    visit: str | None = None
    first: date | None = None
    last: date | None = None

    def takes(self, row: Row) -> bool:
        """Say whether a face of one of the days is asked for."""
        return (
            self.device in (None, row.device)
            and self.camera in (None, row.camera)
            and self.visit in (None, row.visit)
        )

    def takes_day(self, day: date) -> bool:
        """Say whether faces of a day may be."""
        return (self.first or date.min) <= day <= (self.last or date.max)


async def find(files: Files, wanted: Wanted) -> AsyncIterator[Row]:
    """Yield everything that the index knows of what is wanted, the oldest first, each face once.

    All of the days is read. The index may lag, and of a face that is not `known` it cannot tell the visit:
    whoever must have all of them repairs the days before.

    Args:
        files: the store.
        wanted: which faces.
    """
    index = Index(files)
    for day in await index.days():
        if wanted.takes_day(day):
            for hour in await index.hours(day):
                for row in await index.rows(hour):
                    if wanted.takes(row):
                        yield row
