"""Packets as they come in, read and acknowledged in paho's place (docs/decisions/0008).

paho asks the system for the first byte of a packet, for each byte of its length and for the rest; it takes
all of it apart, and sends each acknowledgement alone. Who is sent what anybody likes to send has to get past
what is too much in less time than a broker takes to hand it over. Format: MQTT 5.0, sections 2.1, 3.3, 3.4.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import MQTT_LOG_ERR
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from services.common.mqtt.handshake import CONNACK, why_unusable
from services.common.mqtt.packets import Publication

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 64 * 1024
TURN_S = 0.002
"""So long is read at one turn of the event loop, for others want theirs."""

_PUBLISH, _PUBACK = 0x30, 0x40
_MOST_LENGTH_BYTES = 4


class _TooLarge(ValueError):
    """A packet is larger than the broker was told that one may be."""


class PacketReader:
    """Reads all that has come: publications are handed on, whatever else it is goes to paho.

    Args:
        paho: whose `_packet_read` this stands in for.

    Attributes:
        on_publication: takes each publication; raises `ValueError` for one that is malformed, which ends the
            connection.
        on_more: is called where there is more than could be read in a moment.
        problem: what is wrong with what the broker says of itself, if it is that.
        most_bytes: the largest packet that is read, as the broker was told; one that sends a larger one
            ends the connection.
    """

    def __init__(self, paho: Any) -> None:
        self._paho = paho
        self._received = bytearray()
        self._acknowledged = bytearray()
        self.problem: str | None = None
        self.most_bytes: int | None = None
        self.on_publication: Callable[[Publication], None] = lambda _: None
        self.on_more: Callable[[], None] = lambda: None

    def read(self) -> MQTTErrorCode:
        """Read for a moment, and handle each packet that is whole by then."""
        until_s = time.monotonic() + TURN_S
        while True:
            code = self._read_chunk()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return code
            if time.monotonic() > until_s:
                self.on_more()
                return MQTTErrorCode.MQTT_ERR_AGAIN

    def _read_chunk(self) -> MQTTErrorCode:
        paho = self._paho
        try:
            data = paho._sock_recv(CHUNK_BYTES)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError as error:
            paho._easy_log(MQTT_LOG_ERR, "failed to receive on socket: %s", error)
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        if not data:
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        paho._last_bytes_received = time.monotonic()
        self._received += data
        try:
            return self._handle_all()
        except _TooLarge as error:
            self.problem = str(error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        except (ValueError, MalformedPacket):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def acknowledge(self, packet_id: int) -> None:
        """Acknowledge a publication, together with the others of this turn of the event loop."""
        if not self._acknowledged:
            asyncio.get_running_loop().call_soon(self._send_acknowledged)
        self._acknowledged += b"\x40\x02" + packet_id.to_bytes(2)

    def _send_acknowledged(self) -> None:
        packets = bytes(self._acknowledged)
        self._acknowledged.clear()
        if self._paho.socket() is not None:
            self._paho._packet_queue(_PUBACK, packets, 0, 0)

    def _handle_all(self) -> MQTTErrorCode:
        received, at = self._received, 0
        while (found := _body(received, at, self.most_bytes)) is not None:
            start, end = found
            code = self._handle(received[at], received[start:end])
            if code > 0:
                return code
            at = end
        del received[:at]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle(self, header: int, packet: bytearray) -> MQTTErrorCode:
        paho = self._paho
        if paho.socket() is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        if header & 0xF0 == _PUBLISH:
            self.on_publication(read_publication(header, packet))
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        if header & 0xF0 == CONNACK:
            self.problem = why_unusable(packet)
        paho._in_packet = {
            "command": header,
            "have_remaining": 1,
            "remaining_count": [],
            "remaining_mult": 1,
            "remaining_length": len(packet),
            "packet": packet,
            "to_process": 0,
            "pos": 0,
        }
        code: MQTTErrorCode = paho._packet_handle()
        return code


def read_publication(header: int, packet: bytearray) -> Publication:
    """Return a PUBLISH packet, of which nothing is read beyond its topic and its identifier.

    Raises:
        ValueError: it is malformed, or of QoS 2, which we never ask for.
    """
    has_identifier = header & 0x06 != 0
    topic_end = 2 + int.from_bytes(packet[:2])
    at = topic_end + 2 * has_identifier
    if at > len(packet) or header & 0x04:
        raise ValueError("a publication that is none")
    try:
        topic = packet[2:topic_end].decode()
    except UnicodeDecodeError:
        topic = None
    packet_id = int.from_bytes(packet[topic_end:at]) if has_identifier else 0
    return Publication(topic, header, packet_id, packet, at)


def _body(received: bytearray, at: int, most_bytes: int | None) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` begins and ends, or None if it is not all there yet.

    Raises:
        ValueError: its length has no end, or is more than is taken.
    """
    length = 0
    for index in range(_MOST_LENGTH_BYTES):
        position = at + 1 + index
        if position >= len(received):
            return None
        byte = received[position]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            end = position + 1 + length
            if most_bytes is not None and end - at > most_bytes:
                raise _TooLarge(f"it has sent a packet of {end - at} bytes, and was told {most_bytes}")
            return (position + 1, end) if end <= len(received) else None
    raise ValueError("a length has no end")
