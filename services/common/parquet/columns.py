"""Columns of a table, and the encoding of their values: plain, then gzip.

https://parquet.apache.org/docs/file-format/data-pages/encodings/
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any

from services.common.parquet.thrift import BadParquet, ThriftReader, varint

MOST_BYTES = 64 * 1024 * 1024
"""Bound on a column, decompressed, so that a hostile file cannot fill the memory."""
_GZIP = 31
_LEVEL = 4
_LENGTH = struct.Struct("<I")


class Type(Enum):
    """A column's type; the value is Parquet's number of the physical type, and the `struct` code."""

    BOOLEAN = (0, "")
    INT32 = (1, "i")
    INT64 = (2, "q")
    TIME = (2, "q ")  # microseconds since 1970, UTC
    DOUBLE = (5, "d")
    TEXT = (6, "")

    @property
    def physical(self) -> int:
        """Parquet's number of the physical type."""
        return self.value[0]

    @property
    def code(self) -> str:
        """The `struct` code of one value; `""` where there is none."""
        return self.value[1].strip()


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: its name.
        type: of its values.
        is_optional: whether a value may be missing (`None`).
    """

    name: str
    type: Type
    is_optional: bool = False


def pack(column: Column, values: Sequence[Any]) -> tuple[bytes, int]:
    """Return a column's page, compressed, and its size in bytes before compression."""
    levels = b""
    if column.is_optional:
        levels = _levels([value is not None for value in values])
        values = [value for value in values if value is not None]
    plain = levels + _plain(column.type, values)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(plain) + packer.flush(), len(plain)


def unpack(column: Column, page: bytes, count: int) -> list[Any]:
    """Return the values of a column's page.

    Raises:
        BadParquet: it is not a page of this column with `count` values.
    """
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(page, MOST_BYTES)
    except zlib.error as error:
        raise BadParquet(f"{column.name}: {error}") from error
    if unpacker.unconsumed_tail:
        raise BadParquet(f"{column.name} is larger than {MOST_BYTES} bytes")
    if not unpacker.eof:  # the checksum at the end has not been compared yet
        raise BadParquet(f"{column.name} has no end")
    try:
        if not column.is_optional:
            return _read_plain(column.type, plain, 0, count)
        present, start = _read_levels(plain, count)
        values = iter(_read_plain(column.type, plain, start, sum(present)))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadParquet(f"{column.name}: {error}") from error
    return [next(values) if is_there else None for is_there in present]


def bound(kind: Type, value: Any) -> bytes:
    """Return a value as statistics encode it."""
    return value.encode() if kind is Type.TEXT else struct.pack(f"<{kind.code}", value)


def _plain(kind: Type, values: Sequence[Any]) -> bytes:
    if kind is Type.TEXT:
        encoded = [value.encode() for value in values]
        return b"".join([part for text in encoded for part in (_LENGTH.pack(len(text)), text)])
    if kind is Type.BOOLEAN:
        bits = sum(1 << place for place, value in enumerate(values) if value)
        return bits.to_bytes(-(-len(values) // 8), "little")
    return struct.pack(f"<{len(values)}{kind.code}", *values)


def _read_plain(kind: Type, plain: bytes, start: int, count: int) -> list[Any]:
    if kind is Type.TEXT:
        return _read_texts(plain, start, count)
    if kind is Type.BOOLEAN:
        if len(plain) - start < -(-count // 8):
            raise BadParquet("a column of truths that is too short")
        return [bool(plain[start + place // 8] >> place % 8 & 1) for place in range(count)]
    return list(struct.unpack_from(f"<{count}{kind.code}", plain, start))


def _read_texts(plain: bytes, start: int, count: int) -> list[str]:
    texts = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(plain, start)
        end = start + 4 + length
        if end > len(plain):
            raise BadParquet("a text without an end")
        texts.append(plain[start + 4 : end].decode())
        start = end
    return texts


def _levels(present: list[bool]) -> bytes:
    """Return definition levels as runs: the number of values, and whether they are present."""
    runs = b"".join(
        varint(sum(1 for _ in run) << 1) + bytes([is_there]) for is_there, run in groupby(present)
    )
    return _LENGTH.pack(len(runs)) + runs


def _read_levels(plain: bytes, count: int) -> tuple[list[bool], int]:
    (size,) = _LENGTH.unpack_from(plain, 0)
    reader = ThriftReader(plain, 4)
    present: list[bool] = []
    while len(present) < count:
        head = reader.varint()
        if head & 1 or head >> 1 > count - len(present) or head == 0:
            raise BadParquet("runs that are not ours")
        present += [reader.varint() == 1] * (head >> 1)
    return present, 4 + size
