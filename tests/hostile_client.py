"""A client that a broker lets in, and that then sends whatever bytes it likes."""

import socket
import struct
from types import TracebackType
from typing import TYPE_CHECKING, Self

from services.common.mqtt import Broker
from services.common.mqtt.packets import varint

if TYPE_CHECKING:
    import ssl

RETAIN, QOS_1, QOS_2 = 1, 2, 4
CONNACK, SUBACK = 0x20, 0x90
WAIT_S = 10.0


class HostileClient:
    """A connection on which nothing is read but what is asked for.

    Args:
        broker: where, and with whose certificate.
        name: the client id.
        expiry_s: for how long the broker is to keep the session; at least 0.
        will: topic and payload of a retained last will.
    """

    def __init__(
        self, broker: Broker, name: str, *, expiry_s: int = 0, will: tuple[bytes, bytes] | None = None
    ) -> None:
        tls = broker.tls_context()
        assert tls is not None
        plain = socket.create_connection((broker.host, broker.port), WAIT_S)
        self._connection: ssl.SSLSocket = tls.wrap_socket(plain, server_hostname=broker.host)
        self.send(connect(name, expiry_s, will))
        self.read(CONNACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def send(self, *packets: bytes) -> None:
        """Send packets.

        Raises:
            OSError: the broker has ended the connection, or takes nothing more.
        """
        self._connection.sendall(b"".join(packets))

    def read(self, kind: int) -> bytes:
        """Return the next packet, which has to be of a kind."""
        head = self._read_exactly(2)
        assert head[0] & 0xF0 == kind, head
        assert head[1] < 0x80
        return self._read_exactly(head[1])

    def is_silent(self, wait_s: float) -> bool:
        """Say whether nothing comes for a while."""
        self._connection.settimeout(wait_s)
        try:
            return self._connection.recv(1) == b""
        except TimeoutError:
            return True
        finally:
            self._connection.settimeout(WAIT_S)

    def _read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self._connection.recv(count - len(data))
            if not got:
                raise ConnectionError("the broker has ended the connection")
            data += got
        return data


def connect(name: str, expiry_s: int, will: tuple[bytes, bytes] | None) -> bytes:
    flags = 0b0000_0010 if expiry_s == 0 else 0
    rest = text(name.encode())
    if will is not None:
        flags |= 0b0010_1100
        rest += b"\0" + text(will[0]) + text(will[1])
    properties = b"\x11" + struct.pack(">I", expiry_s)
    keep_alive = struct.pack(">H", 60)
    return packet(0x10, text(b"MQTT") + b"\x05" + bytes([flags]) + keep_alive + block(properties) + rest)


def publish(topic: bytes, payload: bytes, flags: int = 0, number: int = 1, properties: bytes = b"") -> bytes:
    mid = struct.pack(">H", number) if flags & (QOS_1 | QOS_2) else b""
    return packet(0x30 | flags, text(topic) + mid + block(properties) + payload)


def subscribe(*topics: bytes) -> bytes:
    return packet(0x82, b"\0\1\0" + b"".join(text(topic) + b"\1" for topic in topics))


def user_property(name: bytes, value: bytes) -> bytes:
    return b"\x26" + text(name) + text(value)


def text(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def block(properties: bytes) -> bytes:
    return varint(len(properties)) + properties


def packet(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + varint(len(body)) + body
