"""A broker of MQTT 5 that does what one may not, as a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.common.mqtt.packet_reader import read_publication
from services.common.mqtt.packets import varint
from services.common.wire.message import Message
from services.common.wire.receipts import encode_stored
from tests.mqtt_rig import server

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x40, 0x80, 0xC0, 0xE0

Answer = Callable[[Message, int], int | bytes | None]
"""To a publication and its size on the wire: the reason of its PUBACK, nothing for none, or bytes in its
place, behind which the connection is closed."""


def number(kind: int, value: int, size: int) -> bytes:
    """A property that is a number."""
    return bytes([kind]) + value.to_bytes(size)


def text(kind: int, value: str) -> bytes:
    """A property that is a text."""
    return bytes([kind]) + len(value.encode()).to_bytes(2) + value.encode()


def goodbye(code: int, properties: bytes = b"") -> bytes:
    """A DISCONNECT."""
    body = bytes([code]) + varint(len(properties)) + properties
    return bytes([DISCONNECT]) + varint(len(body)) + body


@dataclass
class FalseBroker:
    """What it does, and what it has seen.

    Attributes:
        properties: of CONNACK.
        refuse: called with the whole CONNECT; returns the reason code to refuse it with, 0 to accept it.
        refusal_properties: of a CONNACK that refuses.
        suback: the reason for each topic filter.
        answer: to each publication.
        answers_pings: whether it does.
        receipts: whether it receipts the faces that it acknowledges, as a store behind it would.
        port: where it listens.
        connects: CONNECT packets that came.
        published: what came.
        subscribed: topic filters that came.
    """

    properties: bytes = b""
    refuse: Callable[[bytes], int] = lambda _connect: 0
    refusal_properties: bytes = b""
    suback: Callable[[str], int] = lambda _topic: 1
    answer: Answer = lambda _message, _size: 0
    answers_pings: bool = True
    receipts: bool = False
    port: int = 0
    connects: list[bytes] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        while True:
            header, body = await _packet(reader)
            kind = header & 0xF0
            if kind == CONNECT:
                self.connects.append(body)
                if code := self.refuse(body):
                    writer.write(_connack(code, self.refusal_properties))
                    return
                writer.write(_connack(0, self.properties))
            elif kind == SUBSCRIBE:
                topics = _filters(body)
                self.subscribed += topics
                writer.write(
                    bytes([0x90, 3 + len(topics)]) + body[:2] + b"\x00" + bytes(map(self.suback, topics))
                )
            elif kind == PUBLISH:
                if not self._take(header, body, writer):
                    return
            elif kind == PINGREQ and self.answers_pings:
                writer.write(b"\xd0\x00")
            elif kind == DISCONNECT:
                return
            await writer.drain()

    def _take(self, header: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        publication = read_publication(header, bytearray(body))
        message = publication.message()
        size = 1 + len(varint(len(body))) + len(body)
        self.published.append(message)
        self.sizes.append(size)
        answer = self.answer(message, size)
        if isinstance(answer, bytes):
            writer.write(answer)
            return False
        if answer is not None and message.qos > 0:
            reason = b"" if answer == 0 else bytes([answer])
            writer.write(bytes([PUBACK, 2 + len(reason)]) + publication.packet_id.to_bytes(2) + reason)
        if self.receipts and answer == 0 and message.topic.endswith("/face"):
            receipt = encode_stored(message.topic.split("/")[1], [dict(message.attributes)["id"]], {})
            topic = receipt.topic.encode()
            content = len(topic).to_bytes(2) + topic + b"\x00" + receipt.payload
            writer.write(bytes([PUBLISH]) + varint(len(content)) + content)
        return True


@asynccontextmanager
async def false_broker(**behaviour: object) -> AsyncIterator[FalseBroker]:
    """A broker that behaves so."""
    broker = FalseBroker(**behaviour)  # type: ignore[arg-type]
    async with server(broker.serve) as port:
        broker.port = port
        yield broker


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    header = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return header, await reader.readexactly(length)


def _connack(code: int, properties: bytes) -> bytes:
    body = bytes([0, code]) + varint(len(properties)) + properties
    return bytes([0x20]) + varint(len(body)) + body


def _filters(body: bytes) -> list[str]:
    at, found = 3 + body[2], []
    while at < len(body):
        size = int.from_bytes(body[at : at + 2])
        found.append(body[at + 2 : at + 2 + size].decode())
        at += 3 + size
    return found
