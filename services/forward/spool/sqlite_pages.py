"""Reads the records in the pages of a SQLite file that SQLite cannot read any more, one by one.

Format: "Database File Format", sqlite.org/fileformat2.html, sections 1.3 (header), 1.6 (b-tree pages), 2.1
(records) and 4 (the write-ahead log). A page may hold anything, and records that were deleted long ago may
still be found. The caller has to check what it is given.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

PAGE_BYTES = 8_192
MOST_RECORD_BYTES = 64 * 1024 * 1024

_HEADER_BYTES = 100
_TABLE_LEAF = 0x0D
_LOG_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24

Value = int | bytes | None
"""Texts, blobs and floating-point numbers are the bytes in the file."""


def records(path: Path) -> Iterator[tuple[int, list[Value]]]:
    """Yield each record that can be read, with its row number: those of the log's newest pages first.

    Args:
        path: the database; its log is beside it if there is one.
    """
    with _File(path) as database, _File(path.with_name(f"{path.name}-wal")) as log:
        pages = _Pages(database, log)
        for page, header_at in pages.all():
            yield from _records_of(page, header_at, pages)


class _File:
    """A file's bytes by their place; empty where there are none, or the disk does not give them."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = os.open(path, os.O_RDONLY)
        self.size = 0 if self._descriptor is None else os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def read(self, at: int, size: int) -> bytes:
        if self._descriptor is None:
            return b""
        try:
            return os.pread(self._descriptor, size, at)
        except OSError:
            return b""


class _Pages:
    """A database's pages, from its log if that has a newer one."""

    def __init__(self, database: _File, log: _File) -> None:
        self._database = database
        self._log = log
        self._in_log = dict(_frames(log))
        self.size = database.size + log.size

    def all(self) -> Iterator[tuple[bytes, int]]:
        """Yield every page, older versions too, and where its own header begins."""
        for number, at in reversed(self._in_log.items()):
            yield self._log.read(at, PAGE_BYTES), _HEADER_BYTES if number == 1 else 0
        for at in range(0, self._database.size, PAGE_BYTES):
            yield self._database.read(at, PAGE_BYTES), 0 if at else _HEADER_BYTES

    def get(self, number: int) -> bytes:
        """Return a page by its number, which counts from 1; empty if there is none."""
        if (at := self._in_log.get(number)) is not None:
            return self._log.read(at, PAGE_BYTES)
        return self._database.read((number - 1) * PAGE_BYTES, PAGE_BYTES) if number > 0 else b""


def _frames(log: _File) -> Iterator[tuple[int, int]]:
    """Yield page number and place of each frame of the log's present round; older ones have other salts."""
    salts = log.read(16, 8)
    for at in range(_LOG_HEADER_BYTES, log.size - PAGE_BYTES, _FRAME_HEADER_BYTES + PAGE_BYTES):
        frame = log.read(at, _FRAME_HEADER_BYTES)
        if frame[8:16] != salts:
            return
        yield int.from_bytes(frame[:4]), at + _FRAME_HEADER_BYTES


def _records_of(page: bytes, header_at: int, pages: _Pages) -> Iterator[tuple[int, list[Value]]]:
    if len(page) < PAGE_BYTES or page[header_at] != _TABLE_LEAF:
        return
    cells_at = header_at + 8
    for number in range(int.from_bytes(page[header_at + 3 : header_at + 5])):
        at = cells_at + 2 * number
        with contextlib.suppress(IndexError, ValueError):
            rowid, record = _cell(page, int.from_bytes(page[at : at + 2]), pages)
            yield rowid, _values(record)


def _cell(page: bytes, at: int, pages: _Pages) -> tuple[int, bytes]:
    """Return a cell's row number and its record, with what is in overflow pages.

    Raises:
        IndexError, ValueError: it is none.
    """
    size, at = _varint(page, at)
    rowid, at = _varint(page, at)
    rowid -= (rowid >> 63) << 64  # it has a sign
    if size > min(pages.size, MOST_RECORD_BYTES):
        raise ValueError("a record is longer than any face")
    local = _local_bytes(size)
    parts = [page[at : at + local]]
    missing = size - local
    following = int.from_bytes(page[at + local : at + local + 4])
    seen: set[int] = set()
    while missing > 0:
        overflow = pages.get(following)
        if not overflow or following in seen:
            raise ValueError("the chain of overflow pages is broken")
        seen.add(following)
        parts.append(overflow[4 : 4 + missing])
        missing -= PAGE_BYTES - 4
        following = int.from_bytes(overflow[:4])
    return rowid, b"".join(parts)


def _local_bytes(size: int) -> int:
    """Return how many bytes of a record are in its leaf page (section 1.6, "Cell Payload Overflow Pages")."""
    most = PAGE_BYTES - 35
    if size <= most:
        return size
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_BYTES - 4)
    return local if local <= most else least


def _values(record: bytes) -> list[Value]:
    header_end, at = _varint(record, 0)
    values: list[Value] = []
    body = header_end
    while at < header_end:
        kind, at = _varint(record, at)
        size = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]
        if body + size > len(record):
            raise ValueError("a value is longer than its record")
        values.append(_value(kind, record[body : body + size]))
        body += size
    return values


def _value(kind: int, data: bytes) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    return int.from_bytes(data, signed=True) if kind < 7 else data


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9
