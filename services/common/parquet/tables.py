"""Tables as Parquet files.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.parquet.columns import Column, Type, bound, pack, unpack
from services.common.parquet.thrift import BadParquet, FieldType, ThriftReader, listed, struct

MAGIC = b"PAR1"
MOST_ROWS = 1_000_000
"""Rows in a row group, at most."""
TAIL_BYTES = 8
"""Bytes at a file's end: the length of its footer, and the magic."""
_PLAIN, _RLE = 0, 3
_GZIP = 2
_DATA_PAGE = 0
_TEXT, _MICROSECONDS = 0, 10  # the names that older readers use


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column of a row group: where its page is in the file, in bytes."""

    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group.

    Attributes:
        count: its number of rows.
        chunks: by the column's name.
        first: the least value of each column that has statistics, encoded, by name.
        last: the greatest value, likewise.
    """

    count: int
    chunks: Mapping[str, ColumnChunk]
    first: Mapping[str, bytes]
    last: Mapping[str, bytes]

    @property
    def start(self) -> int:
        """The offset of its first byte in the file."""
        return min(chunk.start for chunk in self.chunks.values())

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return max(chunk.start + chunk.size_bytes for chunk in self.chunks.values())


def write(columns: Sequence[Column], rows: Sequence[Sequence[Any]], group_rows: int, maker: str) -> bytes:
    """Return a table as a file; the same table gives the same bytes.

    Args:
        columns: in the order of the values in a row.
        rows: one or more.
        group_rows: rows in one row group, at most.
        maker: the program's name and version.
    """
    out = bytearray(MAGIC)
    groups = [
        _write_group(out, columns, rows[start : start + group_rows])
        for start in range(0, len(rows), group_rows)
    ]
    footer = struct(
        [
            (1, FieldType.I32, 1),
            (2, FieldType.LIST, listed(FieldType.STRUCT, [_root(columns), *map(_schema, columns)])),
            (3, FieldType.I64, len(rows)),
            (4, FieldType.LIST, listed(FieldType.STRUCT, groups)),
            (6, FieldType.BINARY, maker.encode()),
        ]
    )
    return bytes(out + footer + len(footer).to_bytes(4, "little") + MAGIC)


def footer_bytes(tail: bytes) -> int:
    """Return the length in bytes of the footer of a file that ends with `tail`.

    Raises:
        BadParquet: it is not a Parquet file.
    """
    if len(tail) < TAIL_BYTES or tail[-4:] != MAGIC:
        raise BadParquet("it does not end as Parquet files do")
    return int.from_bytes(tail[-8:-4], "little")


def read_footer(end: bytes) -> list[RowGroup]:
    """Return a file's row groups.

    Args:
        end: the file, or its last bytes: at least `footer_bytes` and `TAIL_BYTES`.

    Raises:
        BadParquet: it was not written by `write`.
    """
    size = footer_bytes(end)
    start = len(end) - TAIL_BYTES - size
    if start < 0:
        raise BadParquet("its footer is longer than the file")
    try:
        return [_read_group(group) for group in ThriftReader(end, start).struct()[4]]
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BadParquet(f"its footer is none of ours: {error!r}") from error


def read(column: Column, group: RowGroup, data: bytes, offset: int = 0) -> list[Any]:
    """Return the values of a column in a row group.

    Args:
        column: the column.
        group: the row group.
        data: a part of the file that contains the group.
        offset: of `data` in the file, bytes.

    Raises:
        BadParquet: the column is missing, or was not written by `write`.
    """
    try:
        chunk = group.chunks[column.name]
        reader = ThriftReader(data, chunk.start - offset)
        head = reader.struct()
        page = data[reader.at : reader.at + _number(head[3])]
        if head[1] != _DATA_PAGE or head[5][2] != _PLAIN or head[5][1] != group.count or len(page) != head[3]:
            raise BadParquet(f"{column.name} is not as it is written here")
    except (LookupError, TypeError) as error:
        raise BadParquet(f"{column.name} is not there: {error!r}") from error
    return unpack(column, page, group.count)


def _write_group(out: bytearray, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> bytes:
    """Append rows as a row group; return its description for the footer."""
    start, chunks, plain_bytes = len(out), [], 0
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        chunk, size = _write_chunk(out, column, values)
        chunks.append(chunk)
        plain_bytes += size
    return struct(
        [
            (1, FieldType.LIST, listed(FieldType.STRUCT, chunks)),
            (2, FieldType.I64, plain_bytes),
            (3, FieldType.I64, len(rows)),
            (5, FieldType.I64, start),
            (6, FieldType.I64, len(out) - start),
        ]
    )


def _write_chunk(out: bytearray, column: Column, values: Sequence[Any]) -> tuple[bytes, int]:
    page, plain_bytes = pack(column, values)
    encodings = struct(
        [
            (1, FieldType.I32, len(values)),
            (2, FieldType.I32, _PLAIN),
            (3, FieldType.I32, _RLE),
            (4, FieldType.I32, _RLE),
        ]
    )
    head = struct(
        [
            (1, FieldType.I32, _DATA_PAGE),
            (2, FieldType.I32, plain_bytes),
            (3, FieldType.I32, len(page)),
            (5, FieldType.STRUCT, encodings),
        ]
    )
    start = len(out)
    out += head + page
    about = struct(
        [
            (1, FieldType.I32, column.type.physical),
            (2, FieldType.LIST, listed(FieldType.I32, [_PLAIN, _RLE])),
            (3, FieldType.LIST, listed(FieldType.BINARY, [column.name.encode()])),
            (4, FieldType.I32, _GZIP),
            (5, FieldType.I64, len(values)),
            (6, FieldType.I64, len(head) + plain_bytes),
            (7, FieldType.I64, len(head) + len(page)),
            (9, FieldType.I64, start),
            (12, FieldType.STRUCT, _statistics(column, values)),
        ]
    )
    return struct([(2, FieldType.I64, start), (3, FieldType.STRUCT, about)]), len(head) + plain_bytes


def _statistics(column: Column, values: Sequence[Any]) -> bytes:
    known = [value for value in values if value is not None]
    missing = (3, FieldType.I64, len(values) - len(known))
    if column.type in (Type.BOOLEAN, Type.DOUBLE) or not known:
        return struct([missing])
    return struct(
        [
            missing,
            (5, FieldType.BINARY, bound(column.type, max(known))),
            (6, FieldType.BINARY, bound(column.type, min(known))),
        ]
    )


def _root(columns: Sequence[Column]) -> bytes:
    return struct([(4, FieldType.BINARY, b"faces"), (5, FieldType.I32, len(columns))])


def _schema(column: Column) -> bytes:
    fields = [
        (1, FieldType.I32, column.type.physical),
        (3, FieldType.I32, int(column.is_optional)),
        (4, FieldType.BINARY, column.name.encode()),
    ]
    if column.type is Type.TEXT:
        logical = struct([(1, FieldType.STRUCT, struct([]))])
        fields += [(6, FieldType.I32, _TEXT), (10, FieldType.STRUCT, logical)]
    if column.type is Type.TIME:
        unit = struct([(2, FieldType.STRUCT, struct([]))])
        time = struct([(1, FieldType.TRUE, True), (2, FieldType.STRUCT, unit)])
        fields += [
            (6, FieldType.I32, _MICROSECONDS),
            (10, FieldType.STRUCT, struct([(8, FieldType.STRUCT, time)])),
        ]
    return struct(fields)


def _read_group(fields: Mapping[int, Any]) -> RowGroup:
    chunks: dict[str, ColumnChunk] = {}
    first: dict[str, bytes] = {}
    last: dict[str, bytes] = {}
    for column in fields[1]:
        about = column[3]
        name = about[3][0].decode()
        if about[4] != _GZIP:
            raise BadParquet(f"{name} is packed in a way that is not ours")
        chunks[name] = ColumnChunk(_number(about[9]), _number(about[7]))
        statistics = about.get(12, {})
        if 5 in statistics and 6 in statistics:
            first[name], last[name] = _bytes(statistics[6]), _bytes(statistics[5])
    if not chunks or (count := _number(fields[3])) > MOST_ROWS:
        raise BadParquet("a group without columns, or with too many rows")
    return RowGroup(count, chunks, first, last)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise BadParquet(f"{value!r:.40} where bytes are wanted")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise BadParquet(f"{value!r:.40} where a number is wanted")
    return value
