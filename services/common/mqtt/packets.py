"""MQTT 5 publications as packets, read and written in paho's place (docs/decisions/0008).

paho-mqtt looks each property up by its name, and for each copies the rest of the packet, picture included, up
to four times. Format: MQTT 5.0, sections 1.5 and 3.3.2.3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.common.wire.message import Message

if TYPE_CHECKING:
    from collections import deque

CONNECT, CONNACK, PUBLISH, PUBACK, DISCONNECT = 0x10, 0x20, 0x30, 0x40, 0xE0
"""The first byte of packets, flags left out (2.1.2)."""

_PAYLOAD_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION = 1, 2, 3, 8, 9
_SUBSCRIPTION_ID, _TOPIC_ALIAS, _USER = 11, 35, 38
_MOST_VARINT_BYTES = 4
_MOST_BYTES = 65_536

Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class PublishProperties:
    """A publication's properties; see `message.Message` for their meaning."""

    content_type: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None

    def pack(self) -> bytes:
        """Return the properties as in a packet, with their length first.

        Raises:
            OverflowError: a text has more than 65,535 bytes, or the expiry more than 32 bits.
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

    Properties that no service needs are skipped. More than 64 KiB of properties are not parsed, which would
    take seconds, and none are returned: no message of ours has as many. U+FEFF is accepted in texts: MQTT 5
    allows it (1.5.4), brokers pass it on, and paho would drop the connection over it, each time if the
    message is retained.

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
            raise ValueError(f"property {kind} occurs twice")
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
    """Read bytes after their 16-bit length; return them and where they end.

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
    """Return a number as MQTT encodes lengths: seven bits a byte, the lowest first (1.5.5)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + value.to_bytes()


@dataclass(slots=True)
class Publication:
    """A PUBLISH packet of which only the topic and the identifier were read (MQTT 5.0, section 3.3).

    Attributes:
        topic: the topic name; None if it is not UTF-8, which brokers may let pass.
        header: the packet's first byte.
        packet_id: the packet identifier that acknowledges it; 0 for QoS 0.
        packet: the packet without header and length; owned by this.
        at: where in it the properties begin.
    """

    topic: str | None
    header: int
    packet_id: int
    packet: Buffer
    at: int

    @property
    def qos(self) -> int:
        """The quality of service with which it was delivered."""
        return (self.header >> 1) & 3

    def message(self) -> Message:
        """Return the message that it carries; its topic must be UTF-8. The payload is copied once.

        Raises:
            ValueError: the packet is malformed.
        """
        assert self.topic is not None
        properties, payload_at = read_properties(self.packet, self.at)
        return Message(
            topic=self.topic,
            payload=bytes(memoryview(self.packet)[payload_at:]),
            qos=self.qos,
            retain=bool(self.header & 1),
            content_type=properties.content_type,
            attributes=properties.attributes,
            response_topic=properties.response_topic,
            correlation=properties.correlation,
        )


def to_properties(message: Message) -> Any:
    """Return a message's properties, with the `pack` that paho calls; an expiry is at least 1 s."""
    expiry_s = None if message.expiry_s is None else max(1, math.ceil(message.expiry_s))
    return PublishProperties(
        message.content_type, message.attributes, message.response_topic, message.correlation, expiry_s
    )


def encode_qos0(message: Message) -> bytes:
    """Return a whole PUBLISH packet of QoS 0 (MQTT 5.0, section 3.3); the payload is copied once.

    Raises:
        ValueError: the topic has wildcards.
        OverflowError: the topic or the properties are longer than the protocol allows.
    """
    if "+" in message.topic or "#" in message.topic:
        raise ValueError(f"wildcards in the topic {message.topic!r}")
    topic, properties = message.topic.encode(), to_properties(message).pack()
    length = varint(2 + len(topic) + len(properties) + len(message.payload))
    header = bytes([PUBLISH | message.retain])
    return b"".join((header, length, len(topic).to_bytes(2), topic, properties, message.payload))


def as_reason(name: str) -> str:
    """Return the name of an MQTT reason code as a metric's label."""
    return name.lower().replace(" ", "_")


def packet_bytes(message: Message) -> int:
    """Return an upper estimate of a message's packet size, bytes."""
    attributes = sum(len(name) + len(value) + 5 for name, value in message.attributes)
    return len(message.payload) + len(message.topic) + attributes + 256


MOST_BYTES = 16_384
"""The most that is sent at once."""


def bundle(packets: "deque[Any]") -> None:
    """Join small packets that follow each other, so that they are sent together.

    Args:
        packets: paho's queue; modified. Only publications of QoS 1 and acknowledgements are joined: paho does
            nothing once these are sent. A packet that is partly sent is left alone.
    """
    if len(packets) < 2:
        return
    left, gathered = list(packets), None
    packets.clear()
    for packet in left:
        if gathered is not None and _is_small(packet, gathered["to_process"]):
            gathered["packet"] = bytes(gathered["packet"]) + bytes(packet["packet"])
            gathered["to_process"] += packet["to_process"]
            continue
        packets.append(packet)
        gathered = packet if _is_small(packet, 0) else None


def _is_small(packet: Any, more_bytes: int) -> bool:
    kind = packet["command"] & 0xF0
    is_plain = kind == PUBACK or (kind == PUBLISH and packet["qos"] > 0)
    size_bytes: int = packet["to_process"]
    return is_plain and packet["pos"] == 0 and size_bytes + more_bytes <= MOST_BYTES
