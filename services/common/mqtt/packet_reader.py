"""Incoming packets, read and acknowledged in paho's place (docs/decisions/0008).

paho makes a system call for the first byte of a packet, one for each byte of its length and one for the rest;
it parses all of it, and sends each acknowledgement alone. A service on topics that anyone may publish to has
to discard a flood in less time than the broker takes to deliver it. Format: MQTT 5.0, sections 2.1, 3.3, 3.4.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import MQTT_LOG_ERR
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from services.common.mqtt.handshake import why_unusable
from services.common.mqtt.packets import CONNACK, PUBACK, PUBLISH, Publication

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 64 * 1024
TURN_S = 0.002
"""The longest time spent reading in one turn of the event loop, so that other tasks have theirs."""

_MOST_LENGTH_BYTES = 4


class _TooLarge(ValueError):
    """A packet exceeds the maximum that was announced to the broker."""


class PacketReader:
    """Reads all that has come: publications are handed on, other packets go to paho.

    Args:
        paho: the client whose `_packet_read` is replaced by `read`.

    Attributes:
        on_publication: called with each publication; raises `ValueError` for a malformed one, which ends
            the connection.
        on_more: called when more has come than was read in `TURN_S`.
        problem: a defect of the broker's packets, in words; None: none was found.
        most_bytes: the largest packet that is accepted, as announced to the broker; a larger one ends the
            connection. None: any.
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
        """Read for `TURN_S` at most, and handle each complete packet; return paho's code for the result."""
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
        """Acknowledge a publication, in one write with the others of this turn of the event loop."""
        if not self._acknowledged:
            asyncio.get_running_loop().call_soon(self._send_acknowledged)
        self._acknowledged += b"\x40\x02" + packet_id.to_bytes(2)

    def _send_acknowledged(self) -> None:
        packets = bytes(self._acknowledged)
        self._acknowledged.clear()
        if self._paho.socket() is not None:
            self._paho._packet_queue(PUBACK, packets, 0, 0)

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
        if header & 0xF0 == PUBLISH:
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
    """Return a PUBLISH packet, of which only the topic and the packet identifier are read.

    Args:
        header: the packet's first byte.
        packet: the rest, without the length; kept, not copied.

    Raises:
        ValueError: it is malformed, or of QoS 2, which we never subscribe with.
    """
    has_identifier = header & 0x06 != 0
    topic_end = 2 + int.from_bytes(packet[:2])
    at = topic_end + 2 * has_identifier
    if at > len(packet) or header & 0x04:
        raise ValueError("a malformed publication")
    try:
        topic = packet[2:topic_end].decode()
    except UnicodeDecodeError:
        topic = None
    packet_id = int.from_bytes(packet[topic_end:at]) if has_identifier else 0
    return Publication(topic, header, packet_id, packet, at)


def _body(received: bytearray, at: int, most_bytes: int | None) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` begins and ends, or None while it is incomplete.

    Raises:
        ValueError: its length field is malformed, or exceeds `most_bytes`.
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
