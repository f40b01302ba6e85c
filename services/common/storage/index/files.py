"""Reads the index's files, or of large ones what is wanted of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from services.common.parquet import tables
from services.common.parquet.tables import RowGroup
from services.common.parquet.thrift import BadParquet
from services.common.storage.index import rows
from services.common.storage.index.rows import IndexFile, Row
from services.common.storage.objects import FileStore

WHOLE_BYTES = 512 * 1024
"""A file up to this size is read by one request; of a larger one its end is read, and the groups wanted."""
END_BYTES = 64 * 1024

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids between two bounds, neither of them included; `""` for no bound."""

    after: str = ""
    before: str = ""

    def places(self, ids: list[str]) -> range:
        """Return where among ids, in order, those within lie."""
        start = bisect_right(ids, self.after) if self.after else 0
        return range(start, bisect_left(ids, self.before) if self.before else len(ids))

    def meets(self, first: str, last: str) -> bool:
        """Say whether ids from one to another, or beginnings of ids, may lie within."""
        return (not self.before or first < self.before) and (not self.after or f"{last}~" > self.after)


async def read_all(files: FileStore, file: IndexFile) -> list[Row]:
    """Return all rows of a file. One that is none of ours has none: it is passed over, and that said.

    Raises:
        NoSuchObject: it is gone: another holds its rows by now.
    """
    data = await files.fetch(file.key)
    try:
        return [row for group in tables.read_footer(data) for row in rows.decode(group, data)]
    except BadParquet as error:
        _say_bad(file, error)
        return []


async def read_some(
    files: FileStore, file: IndexFile, span: IdRange, count: int, *, from_end: bool
) -> list[Row]:
    """Return the first or the last rows of a file within bounds, in order; see `read_all`.

    Args:
        files: the store.
        file: which.
        span: the bounds.
        count: at most so many.
        from_end: whether the last ones are wanted.

    Raises:
        NoSuchObject: it is gone: another holds its rows by now.
    """
    try:
        return await _some(files, file, span, count, from_end=from_end)
    except BadParquet as error:
        _say_bad(file, error)
        return []


async def _some(files: FileStore, file: IndexFile, span: IdRange, count: int, *, from_end: bool) -> list[Row]:
    part = await _PartlyRead.of(files, file)
    found: list[Row] = []
    groups = [group for group in part.groups if span.meets(*_bounds(group))]
    for group in reversed(groups) if from_end else groups:
        left = count - len(found)
        if left <= 0:
            break
        data, offset = await part.data(group)
        places = span.places(rows.ids(group, data, offset))
        some = rows.decode(group, data, offset, at=places[-left:] if from_end else places[:left])
        found = [*some, *found] if from_end else [*found, *some]
    return found


@dataclass(frozen=True, slots=True)
class _PartlyRead:
    """A file of which so much has been read: its end, or all of it.

    Attributes:
        files: the store.
        file: which.
        groups: its groups.
        held: the bytes that were read, and
        offset: where they begin.
    """

    files: FileStore
    file: IndexFile
    groups: list[RowGroup]
    held: bytes
    offset: int

    @classmethod
    async def of(cls, files: FileStore, file: IndexFile) -> "_PartlyRead":
        """Read a file's footer, and all else where that is little."""
        size = file.size_bytes
        offset = 0 if size <= WHOLE_BYTES else size - END_BYTES
        held = await files.fetch(file.key, offset, size)
        if (needed := tables.footer_bytes(held) + tables.TAIL_BYTES) > len(held) and offset:
            offset = max(0, size - needed)
            held = await files.fetch(file.key, offset, size)
        return cls(files, file, tables.read_footer(held), held, offset)

    async def data(self, group: RowGroup) -> tuple[bytes, int]:
        """Return bytes that hold a group, and where they begin."""
        if group.start >= self.offset:
            return self.held, self.offset
        return await self.files.fetch(self.file.key, group.start, group.end), group.start


def _say_bad(file: IndexFile, error: BadParquet) -> None:
    log.warning("index.bad_file", key=file.key, detail=str(error))


def _bounds(group: RowGroup) -> tuple[str, str]:
    try:
        return group.first["id"].decode(), group.last["id"].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise BadParquet("a group does not say between which ids it lies") from error


def newest_first(files: Iterable[IndexFile], span: IdRange) -> list[IndexFile]:
    """Return those files that may have something within bounds, those that end last first."""
    met = (file for file in files if span.meets(file.first, file.last))
    return sorted(met, key=lambda file: file.last, reverse=True)


def oldest_first(files: Iterable[IndexFile], span: IdRange) -> list[IndexFile]:
    """Return those files that may have something within bounds, those that begin first first."""
    met = (file for file in files if span.meets(file.first, file.last))
    return sorted(met, key=lambda file: file.first)
