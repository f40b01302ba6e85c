"""The properties of MQTT 5 publications, read and written in one pass.

paho-mqtt looks each one up by its name, and copies what is left of the packet, the picture included, up to
four times for each. Format: MQTT 5.0, sections 1.5 and 3.3.2.3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PAYLOAD_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION = 1, 2, 3, 8, 9
_SUBSCRIPTION_ID, _TOPIC_ALIAS, _USER = 11, 35, 38
_MOST_VARINT_BYTES = 4
_MOST_BYTES = 65_536

Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class PublishProperties:
    """What a publication carries beside topic and payload; see `message.Message` for the attributes."""

    content_type: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None

    def pack(self) -> bytes:
        """Return the properties as they stand in a packet, their length first.

        Raises:
            OverflowError: a text is longer than 65,535 bytes, or the expiry than 32 bits.
        """
        body = bytearray()
        if self.expiry_s is not None:
            body += _EXPIRY.to_bytes() + self.expiry_s.to_bytes(4)
        if self.content_type is not None:
            body += _CONTENT_TYPE.to_bytes() + _binary(self.content_type.encode())
        if self.response_topic is not None:
            body += _RESPONSE_TOPIC.to_bytes() + _binary(self.response_topic.encode())
        if self.correlation is not None:
            body += _CORRELATION.to_bytes() + _binary(self.correlation)
        for name, value in self.attributes:
            body += _USER.to_bytes() + _binary(name.encode()) + _binary(value.encode())
        return varint(len(body)) + bytes(body)


def read_properties(packet: Buffer, start: int) -> tuple[PublishProperties, int]:
    """Read the properties that begin at `start` of a packet; return them and where the payload begins.

    Properties that nobody here needs are read over. More than 64 KiB of them are not looked at: no message
    of ours has as many, and they would take seconds. U+FEFF is welcome in texts: MQTT 5 allows it (1.5.4),
    brokers pass it on, and paho would drop the connection over it, for ever if the message is retained.

    Raises:
        ValueError: the packet is malformed.
    """
    length, at = _read_varint(packet, start)
    end = at + length
    block = bytes(memoryview(packet)[:end])
    if len(block) < end:
        raise ValueError("the properties are longer than the packet")
    if length > _MOST_BYTES:
        return PublishProperties(), end
    found: dict[int, Any] = {}
    attributes = []
    while at < end:
        kind = block[at]
        if kind == _USER:  # nearly all are
            name, at = read_binary(block, at + 1)
            value, at = read_binary(block, at)
            attributes.append((name.decode(), value.decode()))
            continue
        if (read := _READERS.get(kind)) is None:
            raise ValueError(f"property {kind} is none of a publication's")
        if kind in found and kind != _SUBSCRIPTION_ID:
            raise ValueError(f"property {kind} stands there twice")
        found[kind], at = read(block, at + 1)
    properties = PublishProperties(
        content_type=found.get(_CONTENT_TYPE),
        attributes=tuple(attributes),
        response_topic=found.get(_RESPONSE_TOPIC),
        correlation=found.get(_CORRELATION),
        expiry_s=found.get(_EXPIRY),
    )
    return properties, end


def read_binary(block: Buffer, at: int) -> tuple[bytes, int]:
    """Read bytes behind their length, of 16 bits; return them and where they end.

    Raises:
        ValueError: they are longer than the packet.
    """
    start = at + 2
    end = start + int.from_bytes(block[at:start])
    if end > len(block):
        raise ValueError("a text is longer than its packet")
    return bytes(block[start:end]), end


def _read_text(block: Buffer, at: int) -> tuple[str, int]:
    data, end = read_binary(block, at)
    return data.decode(), end


def _read_varint(block: Buffer, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(block[at : at + _MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a length has no end")


def _number_reader(size: int) -> Callable[[Buffer, int], tuple[int, int]]:
    def read(block: Buffer, at: int) -> tuple[int, int]:
        if at + size > len(block):
            raise ValueError("a number is longer than its packet")
        return int.from_bytes(block[at : at + size]), at + size

    return read


_READERS: dict[int, Callable[[Buffer, int], tuple[Any, int]]] = {
    _PAYLOAD_FORMAT: _number_reader(1),
    _EXPIRY: _number_reader(4),
    _CONTENT_TYPE: _read_text,
    _RESPONSE_TOPIC: _read_text,
    _CORRELATION: read_binary,
    _SUBSCRIPTION_ID: _read_varint,
    _TOPIC_ALIAS: _number_reader(2),
}


def _binary(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def varint(value: int) -> bytes:
    """Return a number as MQTT writes lengths: seven bits a byte, the least first (1.5.5)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + value.to_bytes()
