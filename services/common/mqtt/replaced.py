"""Everything of paho's and aiomqtt's own that is replaced, called or overridden (docs/decisions/0008).

| of paho | is replaced by | because paho |
|---|---|---|
| `_create_socket` | `sockets.open_socket` | knows no proxy and no segment size; its WebSocket loses data |
| `_packet_read` | `PacketReader.read` | reads byte by byte and copies each packet several times |
| `_sock_send`, `_sock_recv` | `_FirstBytes`, until the first byte | does not say that a server is no broker |
| `_packet_queue` | `_queue_with_password` | sends no password without a user |
| `_sock_close` | `closed_by_the_broker`, during DISCONNECT | closes before the broker has read it |

These are set on one client, not on paho's class. An attribute that paho does not use any more could be set
without any effect, so each connection first checks that paho and aiomqtt still have every name in
`FUNCTIONS`, `VARIABLES` and `OVERRIDDEN`. Tests compare these with the sources and with paho's signatures.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import aiomqtt

from services.common.errors import SetupError
from services.common.mqtt.handshake import add_password, why_not_a_broker
from services.common.mqtt.packet_reader import PacketReader
from services.common.mqtt.packets import CONNECT
from services.common.mqtt.reasons import NotABroker
from services.common.mqtt.sockets import Route, open_socket

FUNCTIONS = (
    "_create_socket",
    "_easy_log",
    "_packet_handle",
    "_packet_queue",
    "_packet_read",
    "_send_pingreq",
    "_sock_close",
    "_sock_recv",
    "_sock_send",
    "_ssl_wrap_socket",
)
"""paho's own functions that are replaced or called, here and in the modules beside this one."""
VARIABLES = (
    "_connect_timeout",
    "_host",
    "_in_packet",
    "_keepalive",
    "_last_bytes_received",
    "_max_inflight_messages",
    "_out_packet",
    "_ping_t",
    "_port",
    "_ssl",
    "_ssl_context",
    "_will_properties",
)
"""paho's own variables that are set or read."""
OVERRIDDEN = (
    "_client_connect",
    "_misc_loop",
    "_on_connect",
    "_on_disconnect",
    "_on_socket_register_write",
)
"""aiomqtt's own methods that `Connection` overrides: were one renamed, its override would never run."""


def replace(paho: Any, route: Route, lone_password: str | None) -> PacketReader:
    """Replace functions of a paho client, and return the reader that reads in its place from now on.

    Args:
        paho: a client that has not begun to connect; modified.
        route: how its broker is reached.
        lone_password: a password to send without a user; None: none.

    Raises:
        SetupError: this paho or aiomqtt lacks something that is replaced, called, overridden, set or read.
    """
    _check(paho)
    first = _FirstBytes(paho)
    reader = PacketReader(paho)
    paho._create_socket = functools.partial(open_socket, paho, route, paho._connect_timeout)
    paho._sock_send, paho._sock_recv = first.send, first.receive
    paho._packet_read = reader.read
    if lone_password is not None:
        paho._packet_queue = functools.partial(_queue_with_password, paho._packet_queue, lone_password)
    return reader


def _check(paho: Any) -> None:
    missing = [name for name in FUNCTIONS if not callable(getattr(paho, name, None))]
    missing += [name for name in VARIABLES if not hasattr(paho, name)]
    if missing:
        raise SetupError(f"this version of paho-mqtt is not supported: it has no {', '.join(missing)}")
    if lacking := [name for name in OVERRIDDEN if not hasattr(aiomqtt.Client, name)]:
        raise SetupError(f"this version of aiomqtt is not supported: it has no {', '.join(lacking)}")


class _FirstBytes:
    """Sends and receives until the first byte has come, which shows whether the server is a broker."""

    def __init__(self, paho: Any) -> None:
        self._paho = paho
        self._send: Callable[[bytes], int] = paho._sock_send
        self._receive: Callable[[int], bytes] = paho._sock_recv

    def receive(self, size: int) -> bytes:
        """Receive; with the first byte give paho its own functions back.

        Raises:
            NotABroker: a broker cannot have sent these bytes.
        """
        data = self._receive(size)
        if data:
            del self._paho._sock_recv, self._paho._sock_send
            if why_not_a_broker(data) is not None:
                with contextlib.suppress(OSError):
                    data += self._receive(31)
                raise NotABroker(why_not_a_broker(data))
        return data

    def send(self, data: bytes) -> int:
        """Send; if the server has closed the connection, first read the reason that it may have sent.

        Raises:
            NotABroker: it sent what a broker cannot have sent.
        """
        try:
            return self._send(data)
        except BlockingIOError:
            raise
        except OSError:
            with contextlib.suppress(BlockingIOError):
                self.receive(1)
            raise


def _queue_with_password(queue: Any, password: str, command: int, packet: bytearray, *rest: Any) -> Any:
    """Queue a packet as `queue` does; a CONNECT gets the password."""
    return queue(command, add_password(packet, password) if command == CONNECT else packet, *rest)


@contextlib.contextmanager
def closed_by_the_broker(paho: Any) -> Iterator[asyncio.Event]:
    """Keep the socket open after DISCONNECT until the broker closes it; yield an event that is set then.

    paho closes the socket right after DISCONNECT, and again when the broker has closed it.
    """
    closed = asyncio.Event()

    def close_at_the_second_call() -> None:
        def close() -> None:
            vars(paho).pop("_sock_close")
            paho._sock_close()
            closed.set()

        paho._sock_close = close

    paho._sock_close = close_at_the_second_call
    try:
        yield closed
    finally:
        vars(paho).pop("_sock_close", None)  # from now on a close closes
