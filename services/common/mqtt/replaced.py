"""What stands in the place of functions of one paho client, each for a reason of ours (docs/decisions/0008).

The long ones have modules of their own: `sockets` opens the socket, `reading` reads packets. All are put in
place here, and only where paho still has what they replace: what nobody calls any more could be set without a
word.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from services.common.errors import SetupError
from services.common.mqtt.handshake import CONNECT, add_password, why_not_a_broker
from services.common.mqtt.packet_reader import PacketReader
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
"""Those of paho's own that are replaced or called, here and in the modules beside this one."""
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
"""Those that are set or read."""


def replace(paho: Any, route: Route, lone_password: str | None) -> PacketReader:
    """Put all that is ours in the place of paho's own; return what reads in its place from here on.

    Args:
        paho: a client that has not begun to connect.
        route: how its broker is reached.
        lone_password: a password to send without a user; nothing for none.

    Raises:
        SetupError: this paho lacks something that is replaced, called, set or read.
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
        raise SetupError(f"this paho-mqtt is none that Faceferry knows: it has no {', '.join(missing)}")


class _FirstBytes:
    """Sends and receives until the first byte has come, which tells whether this is a broker."""

    def __init__(self, paho: Any) -> None:
        self._paho = paho
        self._send: Callable[[bytes], int] = paho._sock_send
        self._receive: Callable[[int], bytes] = paho._sock_recv

    def receive(self, size: int) -> bytes:
        """Receive, and leave the place with the first byte."""
        data = self._receive(size)
        if data:
            del self._paho._sock_recv, self._paho._sock_send
            if why_not_a_broker(data) is not None:
                with contextlib.suppress(OSError):
                    data += self._receive(31)
                raise NotABroker(why_not_a_broker(data))
        return data

    def send(self, data: bytes) -> int:
        """Send; who closes on what is sent may have said why before."""
        try:
            return self._send(data)
        except BlockingIOError:
            raise
        except OSError:
            with contextlib.suppress(BlockingIOError):
                self.receive(1)
            raise


def _queue_with_password(queue: Any, password: str, command: int, packet: bytearray, *rest: Any) -> Any:
    """Queue a packet for paho, which sends a password only beside a user."""
    return queue(command, add_password(packet, password) if command == CONNECT else packet, *rest)


@contextlib.contextmanager
def closed_by_the_broker(paho: Any) -> Iterator[asyncio.Event]:
    """Keep the socket open over paho's goodbye, until the broker closes it; tell when that is.

    paho closes right after its goodbye, and again when the broker does.
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
        vars(paho).pop("_sock_close", None)  # from here on a close is one
