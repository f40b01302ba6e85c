"""Reads files of the index, large ones in part."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from services.common.parquet import tables
from services.common.parquet.tables import RowGroup
from services.common.parquet.thrift import BadParquet
from services.common.storage.index import rows
from services.common.storage.index.rows import IndexFile, IndexRow
from services.common.storage.objects import FileStore

WHOLE_BYTES = 512 * 1024
"""A file up to this size is read by one request; of a larger one its end, and the groups that are needed."""
END_BYTES = 64 * 1024

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IdRange:
    """A range of ids, without its bounds; `""` for no bound."""

    after: str = ""
    before: str = ""

    def places(self, ids: list[str]) -> range:
        """Return the indices of the sorted ids that are in the range."""
        start = bisect_right(ids, self.after) if self.after else 0
        return range(start, bisect_left(ids, self.before) if self.before else len(ids))

    def meets(self, first: str, last: str) -> bool:
        """Say whether ids from `first` to `last`, which may be beginnings of ids, may be in the range."""
        return (not self.before or first < self.before) and (not self.after or f"{last}~" > self.after)


async def read_all(files: FileStore, file: IndexFile) -> list[IndexRow]:
    """Return all rows of a file; none where it is malformed, which is logged.

    Raises:
        NoSuchObject: it was replaced: another file has its rows.
    """
    data = await files.fetch(file.key)
    try:
        return [row for group in tables.read_footer(data) for row in rows.decode(group, data)]
    except BadParquet as error:
        _say_bad(file, error)
        return []


async def read_some(
    files: FileStore, file: IndexFile, span: IdRange, count: int, *, from_end: bool
) -> list[IndexRow]:
    """Return the first or the last rows of a file in a range, sorted; see `read_all`.

    Args:
        files: the store.
        file: the file.
        span: the range of ids.
        count: rows, at most.
        from_end: whether the last rows are wanted.

    Raises:
        NoSuchObject: it was replaced: another file has its rows.
    """
    try:
        return await _some(files, file, span, count, from_end=from_end)
    except BadParquet as error:
        _say_bad(file, error)
        return []


async def _some(
    files: FileStore, file: IndexFile, span: IdRange, count: int, *, from_end: bool
) -> list[IndexRow]:
    part = await _PartlyRead.of(files, file)
    found: list[IndexRow] = []
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
    """A file of which the end, or all of it, has been read.

    Attributes:
        files: the store.
        file: the file.
        groups: its row groups.
        held: the bytes that were read.
        offset: where `held` begins in the file.
    """

    files: FileStore
    file: IndexFile
    groups: list[RowGroup]
    held: bytes
    offset: int

    @classmethod
    async def of(cls, files: FileStore, file: IndexFile) -> "_PartlyRead":
        """Read a file's footer; a small file is read whole."""
        size = file.size_bytes
        offset = 0 if size <= WHOLE_BYTES else size - END_BYTES
        held = await files.fetch(file.key, offset, size)
        if (needed := tables.footer_bytes(held) + tables.TAIL_BYTES) > len(held) and offset:
            offset = max(0, size - needed)
            held = await files.fetch(file.key, offset, size)
        return cls(files, file, tables.read_footer(held), held, offset)

    async def data(self, group: RowGroup) -> tuple[bytes, int]:
        """Return bytes that contain a group, and their offset in the file."""
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
    """Return the files that may have ids in a range; those with the latest ends first."""
    met = (file for file in files if span.meets(file.first, file.last))
    return sorted(met, key=lambda file: file.last, reverse=True)


def oldest_first(files: Iterable[IndexFile], span: IdRange) -> list[IndexFile]:
    """Return the files that may have ids in a range; those with the earliest beginnings first."""
    met = (file for file in files if span.meets(file.first, file.last))
    return sorted(met, key=lambda file: file.first)
