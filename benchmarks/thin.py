"""A simulated device as thin as ten thousand of them in one process have to be.

What `simulated.Device` has, a link of ours, looks several times a second whether its broker is there; so many
of those take more of this machine than what is to be measured.
"""

import asyncio
from datetime import UTC, datetime

from benchmarks.simulated import Ledger, new_face
from services.common.faces import encode_face
from services.common.message import Message
from services.common.mqtt.packets import to_properties
from services.common.mqtt.publish import varint
from services.common.mqtt.reading import read_publication
from services.common.receipts import decode_receipt
from services.common.topics import Source, device_topic

_CONNACK, _PUBLISH, _SUBACK = 0x20, 0x30, 0x90
_PUBLISH_QOS_1 = 0x32


class ThinDevice(asyncio.Protocol):
    """Publishes faces under a name, at QoS 1, and notes their receipts.

    It is never heard of otherwise: it asks for no keep-alive.

    Args:
        name: the device's.
        ledger: is told; may be shared.
    """

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._source = Source(name, "front")
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
            topic = _text(device_topic(self._source.device, "stored"))
            self._transport.write(_packet(0x82, b"\x00\x01\x00" + topic + b"\x01"))
        elif header & 0xF0 == _SUBACK:
            self._up.set_result(None)
        elif header & 0xF0 == _PUBLISH:
            publication = read_publication(header, body)
            self._ledger.note_receipt(decode_receipt(publication.message()).ids)
            if publication.qos:
                self._transport.write(_packet(0x40, publication.packet_id.to_bytes(2)))


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
    """Return where the first packet's body begins and ends; nothing if it is not whole yet."""
    length = 0
    for index, byte in enumerate(received[1:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            start = index + 2
            return (start, start + length) if start + length <= len(received) else None
    return None
