"""MQTT over WebSockets (RFC 6455; MQTT 5.0, section 6), with a socket's interface, in paho's place.

paho's own WebSocket loses a packet that the socket takes only in part, answers a ping in the middle of
another frame, and masks byte by byte.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.uri import parse_uri

from services.common.mqtt.limits import MAX_PACKET_BYTES

MOST_BYTES = MAX_PACKET_BYTES + 14
"""The largest message: a packet of MQTT, with a frame's header."""
_READ_BYTES = 65_536


class WebSocket:
    """A connected socket that carries MQTT in WebSocket frames.

    Args:
        connection: a blocking socket to the server, with TLS if there is any; owned and closed by this.
        url: `ws://host:port/path` or `wss://...`.

    Attributes:
        heard_s: when bytes last came in, steady clock: paho sees only complete frames.

    Raises:
        OSError: the server refuses the handshake; the connection is closed.
    """

    def __init__(self, connection: socket.socket, url: str) -> None:
        self._connection = connection
        self._protocol = ClientProtocol(parse_uri(url), subprotocols=["mqtt"], max_size=MOST_BYTES)  # type: ignore[list-item]
        self._unsent = bytearray()
        self._sending = 0
        self._received = bytearray()
        self.heard_s = time.monotonic()
        try:
            self._agree()
        except BaseException:
            connection.close()
            raise

    def send(self, data: bytes | bytearray) -> int:
        """Send a packet in a frame of its own and return its size; to be repeated with it until then.

        Raises:
            BlockingIOError: the socket has not taken all of it; or TLS's errors of the same meaning.
            OSError: the connection has ended.
        """
        if not self._sending:
            if not self._is_open:
                raise ConnectionAbortedError("the other side has closed the WebSocket")
            self._protocol.send_binary(data)
            self._sending = len(data)
        self._flush()
        sent, self._sending = self._sending, 0
        return sent

    def recv(self, most_bytes: int) -> bytes:
        """Return bytes of packets that have come; empty at the end.

        Raises:
            BlockingIOError: nothing has come; or TLS's errors of the same meaning.
            OSError: the connection has ended, or the other side breaks the protocol.
        """
        if not self._received and self._is_open:
            self._take_in()
        if not self._received and self._is_open:
            raise BlockingIOError
        data = bytes(self._received[:most_bytes])
        del self._received[:most_bytes]
        return data

    def pending(self) -> int:
        """Return how many bytes can be read although the socket below may not become readable.

        The end counts as one byte: it may have come together with the last of them.
        """
        below = self._connection.pending() if isinstance(self._connection, ssl.SSLSocket) else 0
        return len(self._received) + below + (not self._is_open)

    @property
    def secured(self) -> socket.socket:
        """The socket below: an `ssl.SSLSocket` if there is TLS."""
        return self._connection

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._connection.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - a socket's own
        """Make the socket blocking, or not."""
        self._connection.setblocking(flag)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _agree(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._connection.sendall(b"".join(self._protocol.data_to_send()))
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            data = self._connection.recv(_READ_BYTES)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            self._sort(self._protocol.events_received())
        if (problem := self._protocol.handshake_exc) is not None:
            raise OSError(str(problem)) from problem
        if not self._is_open:
            raise OSError("it was closed at once")

    @property
    def _is_open(self) -> bool:
        return self._protocol.state is State.OPEN

    def _take_in(self) -> None:
        """Read what has come."""
        data = self._connection.recv(_READ_BYTES)
        if data:
            self.heard_s = time.monotonic()
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._sort(self._protocol.events_received())
        with contextlib.suppress(OSError):  # the next send or read fails too, once what has come is read
            self._flush()  # a ping's answer
        if isinstance(problem := self._protocol.parser_exc, WebSocketException):
            raise OSError(f"the WebSocket is broken: {problem}") from problem

    def _sort(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                raise OSError("the WebSocket brings text, which is no MQTT")
            if isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._received += event.data

    def _flush(self) -> None:
        # In order, after the rest of an earlier frame: a frame that has begun is sent to its end.
        self._unsent += b"".join(self._protocol.data_to_send())
        while self._unsent:
            del self._unsent[: self._connection.send(self._unsent)]
