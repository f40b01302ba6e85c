"""MQTT in WebSockets (RFC 6455; MQTT 5.0, section 6), as a socket in paho's place.

paho's own forgets a packet that the socket takes only a part of, answers a ping in the midst of another
frame, and puts the mask on byte by byte.
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

MOST_BYTES = 268_435_460 + 14
"""The largest packet that MQTT has."""
_READ_BYTES = 65_536


class WebSocket:
    """A connected socket on which the other side has agreed to speak MQTT in WebSockets.

    Args:
        connection: to the server, blocking, with TLS if there is any; closed with this.
        url: `ws://host:port/path` or `wss://...`.

    Attributes:
        heard_s: when something last came, by the steady clock: a frame is seen when it is whole only.

    Raises:
        OSError: the server does not agree; the connection is closed.
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
        """Send a packet, in a frame of its own; to be called with the same one until it is all gone.

        Raises:
            BlockingIOError: it is not, yet; so do TLS's errors of this kind say.
            OSError: the connection is over.
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
        """Return what has come of the packets; nothing at the end.

        Raises:
            BlockingIOError: nothing has come just now; so do TLS's errors of this kind say.
            OSError: the connection is over, or this is no WebSocket any more.
        """
        if not self._received and self._is_open:
            self._take_in()
        if not self._received and self._is_open:
            raise BlockingIOError
        data = bytes(self._received[:most_bytes])
        del self._received[:most_bytes]
        return data

    def pending(self) -> int:
        """Return how many bytes can be had of which the socket does not tell whoever waits for it.

        The end is one: it may have come behind the last of them.
        """
        below = self._connection.pending() if isinstance(self._connection, ssl.SSLSocket) else 0
        return len(self._received) + below + (not self._is_open)

    @property
    def secured(self) -> socket.socket:
        """The socket below, which knows about TLS if there is any."""
        return self._connection

    def fileno(self) -> int:
        """Return the socket's number."""
        return self._connection.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - a socket's own
        """Make the socket wait, or not."""
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
            raise OSError("it is closed at once")

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
        with contextlib.suppress(OSError):  # the next to send or to read hears of it, behind what has come
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
        # In order, and behind what a frame left: what begins is sent to its end.
        self._unsent += b"".join(self._protocol.data_to_send())
        while self._unsent:
            del self._unsent[: self._connection.send(self._unsent)]
