"""Sockets to brokers: opened directly or through a proxy, with small segments, or as WebSockets."""

import contextlib
import fcntl
import http.client
import select
import socket
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from services.common.mqtt.broker import Proxy
from services.common.mqtt.websocket import WebSocket


def is_readable(sock: Any) -> bool:
    """Return whether something can be read from a socket, its end included."""
    if sock is None or sock.fileno() < 0:
        return False
    ready = select.poll()
    ready.register(sock.fileno(), select.POLLIN)
    return bool(ready.poll(0))


def unsent_bytes(sock: Any) -> int:
    """Return how many of our bytes the other side's TCP has not acknowledged; 0 where that is not known."""
    if sock is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Route:
    """How a broker is reached.

    Attributes:
        proxy: the HTTP proxy to connect through; None: directly.
        websocket: the WebSocket's URL, as `wss://host:443/mqtt`; None: plain MQTT over TCP.
        segment_bytes: TCP's maximum segment size, in both directions; None: what the interface allows.
    """

    proxy: Proxy | None = None
    websocket: str | None = None
    segment_bytes: int | None = None


def open_socket(paho: Any, route: Route, timeout_s: float) -> Any:
    """Return a paho client's new socket, with TLS if the client has a context; blocks.

    Args:
        paho: the client, which knows the host.
        route: how the host is reached.
        timeout_s: for each of the host's addresses, and for the TLS and WebSocket handshakes together.

    Raises:
        OSError: there is no connection.
    """
    connection: Any = _dial(paho._host, paho._port, route, timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with _ended_in(connection, timeout_s):
        if paho._ssl:
            connection = paho._ssl_wrap_socket(connection)
        if route.websocket is not None:
            connection = _as_websocket(connection, route.websocket)
    return connection


def _dial(host: str, port: int, route: Route, timeout_s: float) -> socket.socket:
    if route.proxy is None:
        return _connect((host, port), timeout_s, route.segment_bytes)
    try:
        connection = _connect((route.proxy.host, route.proxy.port), timeout_s, route.segment_bytes)
        with _ended_in(connection, timeout_s):
            _ask(connection, route.proxy, host, port)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OSError(f"the proxy {route.proxy.host}:{route.proxy.port}: {error}") from error
    return connection


def _ask(connection: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Ask a proxy for a tunnel; the connection is closed if it refuses."""
    tunnel = http.client.HTTPConnection(proxy.host, proxy.port)
    tunnel._create_connection = lambda *_: connection  # type: ignore[attr-defined]
    try:
        name = f"[{host}]" if ":" in host else host.encode("idna").decode()
        tunnel.set_tunnel(name, port, proxy.headers)
        tunnel.connect()
    except BaseException:
        connection.close()
        raise


def _connect(address: tuple[str, int], timeout_s: float, segment_bytes: int | None) -> socket.socket:
    """Connect to the first of a host's addresses that answers."""
    if segment_bytes is None:
        return socket.create_connection(address, timeout_s)
    problem = OSError(f"no address of {address[0]}")
    for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            # To be announced to the other side, and heeded by our own, it has to be set before connecting.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment_bytes)
            connection.settimeout(timeout_s)
            connection.connect(place)
        except OSError as error:
            connection.close()
            problem = error
        else:
            return connection
    raise problem


@contextlib.contextmanager
def _ended_in(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Shut a connection down if the context takes too long: a timeout for each read could go on for ever."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    with connection.dup() as same:  # because TLS detaches the original object from the connection
        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _as_websocket(connection: socket.socket, url: str) -> WebSocket:
    try:
        return WebSocket(connection, url)
    except OSError as error:
        raise OSError(f"no WebSocket is spoken at {urlsplit(url).path}: {error}") from error
