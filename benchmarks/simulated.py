"""Devices that send faces without a camera, and a ledger of what happened to each face."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache

import cv2
import numpy as np

from services.common.mqtt.packet_reader import read_publication
from services.common.mqtt.packets import to_properties, varint
from services.common.wire.faces import Face, encode_face, mint
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import Source, device_topic

_CONNACK, _PUBLISH, _SUBACK = 0x20, 0x30, 0x90
_PUBLISH_QOS_1 = 0x32
_KNOWN = {
    "box": "812,240,132,132",
    "framesize": "1920x1080",
    "score": "0.912",
    "landmarks": "840.1,290.2,902.3,288.8,870.0,320.5,846.2,341.9,898.4,340.0",
    "sharpness": "213.4",
    "detector": "yunet",
}


class Ledger:
    """How many faces were published and how many receipts came in, and how long each face waited."""

    def __init__(self) -> None:
        self.published = 0
        self.receipts = 0
        self._waiting_s: dict[str, float] = {}
        self._took: list[tuple[float, float]] = []

    @property
    def waiting(self) -> int:
        """How many faces have no receipt yet."""
        return len(self._waiting_s)

    def note_published(self, face_id: str) -> None:
        """Note a face that is sent now."""
        self.published += 1
        self._waiting_s[face_id] = time.monotonic()

    def note_receipt(self, ids: Iterable[str]) -> None:
        """Note a receipt; a second one for the same face is ignored."""
        self.receipts += 1
        for face_id in ids:
            if (at_s := self._waiting_s.pop(face_id, None)) is not None:
                self._took.append((at_s, time.monotonic() - at_s))

    def took_ms(self, since_s: float, until_s: float) -> list[float]:
        """Return the milliseconds of the faces published between two times of the monotonic clock."""
        return [took_s * 1e3 for at_s, took_s in self._took if since_s <= at_s < until_s]


class Device(asyncio.Protocol):
    """Publishes faces under a name, at QoS 1, and notes their receipts; it asks for no keep-alive.

    It is minimal, because ten thousand of them run in one process: a `Link` checks several times a second
    whether its broker is there, and so many of those would use more CPU than what is measured.

    Args:
        name: the device's.
        ledger: notes each face; may be shared.
        receipts: `stored` in forward's place, `taken` in detect's.
    """

    def __init__(self, name: str, ledger: Ledger, receipts: str = "stored") -> None:
        self._source = Source(name, "front")
        self._receipts = device_topic(name, receipts)
        self._ledger = ledger
        self._received = bytearray()
        self._packet_id = 0
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, port: int) -> None:
        """Connect and subscribe to receipts.

        Args:
            port: the broker's, on this machine.
        """
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", port)
        body = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + _text(f"forward-{self._source.device}-thin")
        self._transport.write(_packet(0x10, body))
        await self._up

    def publish(self, number: int) -> None:
        """Publish a face, different for each number."""
        face = new_face(self._source, number, datetime.now(UTC))
        self._ledger.note_published(face.id)
        self._packet_id = self._packet_id % 65_535 + 1
        self._transport.write(_published(encode_face(face), self._packet_id))

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what the broker sends."""
        self._received += data
        while (length := _length(self._received)) is not None:
            start, end = length
            header, body = self._received[0], self._received[start:end]
            del self._received[:end]
            self._take(header, body)

    def _take(self, header: int, body: bytearray) -> None:
        if header & 0xF0 == _CONNACK:
            topic = _text(self._receipts)
            self._transport.write(_packet(0x82, b"\x00\x01\x00" + topic + b"\x01"))
        elif header & 0xF0 == _SUBACK:
            self._up.set_result(None)
        elif header & 0xF0 == _PUBLISH:
            publication = read_publication(header, body)
            self._ledger.note_receipt(decode_receipt(publication.message()).ids)
            if publication.qos:
                self._transport.write(_packet(0x40, publication.packet_id.to_bytes(2)))


def new_face(source: Source, number: int, taken: datetime) -> Face:
    """Return a face of 20 kB, different for each number, with the properties that detect gives it."""
    image = _picture()
    image = image[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8) + image[2:]
    return mint(source, taken, image, "image/jpeg", _KNOWN)


@cache
def _picture() -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (132, 132, 3), np.uint8)
    encoded: bytes = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 87])[1].tobytes()
    return encoded


def _published(message: Message, packet_id: int) -> bytes:
    properties = to_properties(message).pack()
    return _packet(
        _PUBLISH_QOS_1, _text(message.topic) + packet_id.to_bytes(2) + properties + message.payload
    )


def _packet(header: int, body: bytes) -> bytes:
    return bytes([header]) + varint(len(body)) + body


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2) + text.encode()


def _length(received: bytearray) -> tuple[int, int] | None:
    """Return where the first packet's body begins and ends, or None if it is not whole yet."""
    length = 0
    for index, byte in enumerate(received[1:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            start = index + 2
            return (start, start + length) if start + length <= len(received) else None
    return None
