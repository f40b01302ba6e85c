"""Thrift's compact protocol, in which Parquet encodes its headers and footer.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from services.common.errors import FaceferryError


class BadParquet(FaceferryError):
    """The bytes are not Parquet, or not written by this package."""


_DEEPEST = 32


class FieldType(IntEnum):
    """The type of a field or of a list's items; the numbers are the protocol's."""

    TRUE = 1
    FALSE = 2
    I32 = 5
    I64 = 6
    BINARY = 8
    LIST = 9
    STRUCT = 12


Field = tuple[int, FieldType, Any]
"""A field's number, type and value: an `int`, `bytes`, or an encoded list or struct."""


def struct(fields: Iterable[Field]) -> bytes:
    """Return an encoded struct; fields are sorted by number, none more than 15 above the one before."""
    out = bytearray()
    last = 0
    for number, kind, value in fields:
        out.append((number - last) << 4 | kind)
        out += _value(kind, value)
        last = number
    out.append(0)
    return bytes(out)


def listed(kind: FieldType, items: Iterable[Any]) -> bytes:
    """Return an encoded list of items of one type."""
    values = [_value(kind, item) for item in items]
    head = (
        bytes([len(values) << 4 | kind]) if len(values) < 15 else bytes([0xF0 | kind]) + varint(len(values))
    )
    return head + b"".join(values)


def _value(kind: FieldType, value: Any) -> bytes:
    match kind:
        case FieldType.TRUE | FieldType.FALSE:
            return b""
        case FieldType.I32 | FieldType.I64:
            number: int = value
            return varint(number << 1 ^ number >> 63)
        case FieldType.BINARY:
            return varint(len(value)) + bytes(value)
    return bytes(value)


def varint(number: int) -> bytes:
    """Return an encoded unsigned number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class ThriftReader:
    """Reads structs from bytes.

    Args:
        data: not modified, not copied.
        at: the offset to begin at.

    Attributes:
        at: the offset of the next byte.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a struct; return its fields by number: `bool`, `int`, `bytes`, lists and structs.

        Raises:
            BadParquet: the bytes are not a struct.
        """
        if depth > _DEEPEST:
            raise BadParquet("structs within structs without an end")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._any(head & 0x0F, depth)
        return fields

    def varint(self) -> int:
        """Read an unsigned number.

        Raises:
            BadParquet: the bytes are not a number.
        """
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise BadParquet("a number without an end")

    def _any(self, kind: int, depth: int) -> Any:
        match kind:
            case FieldType.TRUE | FieldType.FALSE:
                return kind == FieldType.TRUE
            case FieldType.I32 | FieldType.I64:
                return self._zigzag()
            case FieldType.BINARY:
                return self._bytes(self.varint())
            case FieldType.LIST:
                return self._list(depth)
            case FieldType.STRUCT:
                return self.struct(depth + 1)
        raise BadParquet(f"a field of kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head < 0xF0 else self.varint()
        kind = head & 0x0F
        if count > len(self._data) - self.at:  # each takes a byte at least
            raise BadParquet(f"a list of {count} items")
        if kind in (FieldType.TRUE, FieldType.FALSE):
            return [self._byte() == FieldType.TRUE for _ in range(count)]
        return [self._any(kind, depth + 1) for _ in range(count)]

    def _zigzag(self) -> int:
        number = self.varint()
        return number >> 1 ^ -(number & 1)

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise BadParquet("it ends in the middle")
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, count: int) -> bytes:
        if self.at + count > len(self._data):
            raise BadParquet("it ends in the middle")
        self.at += count
        return bytes(self._data[self.at - count : self.at])
