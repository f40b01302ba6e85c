"""The connections to an HTTP server of ours: how many there may be, and how long each may take."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.runtime.metrics import HTTP_CLOSED, Drops

MOST_CONNECTIONS: Final = 128
"""The default for connections at a time."""
WHOLE_REQUEST_S: Final = 10.0
"""The longest time for a whole request to arrive, its body included."""
IDLE_S: Final = 75.0
"""How long a connection is kept for the next request: longer than proxies keep theirs."""
TAKE_S: Final = 10.0
"""A client that takes nothing of its answer for this long is gone, or means harm."""
LOOK_EVERY_S: Final = 1.0

_END_OF_HEAD: Final = b"\r\n\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_drops = Drops(HTTP_CLOSED, "http.connection_closed")


class HttpConnections:
    """The connections to one server. When it is full, a new connection ends the oldest idle one.

    Args:
        most: connections at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[asyncio.Protocol, HttpConnection] = {}

    def wrap(self, protocol: asyncio.Protocol) -> "HttpConnection":
        """Return a protocol that stands between a new connection and aiohttp's own protocol."""
        return HttpConnection(protocol, self)

    def admit(self, connection: "HttpConnection") -> bool:
        """Add a connection, and end the oldest idle one if there is no room; return False if none is idle."""
        if len(self._open) >= self._most:
            _drops.count("too_many")
            idle = next((each for each in self._open.values() if each.is_idle), None)
            if idle is None:
                return False
            idle.end()
        self._open[connection.protocol] = connection
        return True

    def forget(self, connection: "HttpConnection") -> None:
        """Remove a connection that has ended."""
        self._open.pop(connection.protocol, None)

    @property
    def middleware(self) -> Middleware:
        """Notes on each connection when a request begins and ends; must be an application's outermost."""

        @web.middleware
        async def note_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
            connection = self._open.get(request.protocol)
            if connection is None:
                return await handler(request)
            connection.begin(request)
            try:
                return await handler(request)
            finally:
                connection.finish(time.monotonic())

        return note_requests

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End overdue connections while the context lasts."""
        watching = asyncio.create_task(self._watch(), name="http.connections")
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            for connection in list(self._open.values()):
                reason = connection.why_overdue(now_s)
                if reason is None:
                    continue
                if reason != "idle":
                    _drops.count(reason)
                connection.end()


class HttpConnection(asyncio.Protocol):
    """One connection: hands all events on to aiohttp, and measures what the client is late with.

    Args:
        protocol: aiohttp's own protocol.
        connections: the server's.
    """

    def __init__(self, protocol: asyncio.Protocol, connections: HttpConnections) -> None:
        self.protocol = protocol
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._request: web.Request | None = None
        self._since_s = time.monotonic()
        # Whether a further request has begun; a new connection counts as one. The end of a body may be taken
        # for the beginning of a request: then the time limit for the next request is shorter.
        self._has_begun = True
        self._untaken_bytes = 0
        self._taken_s = self._since_s

    @property
    def is_idle(self) -> bool:
        """Whether no complete request is being answered, and no bytes wait to be sent."""
        return self._request is None and not self._unsent_bytes()

    def begin(self, request: web.Request) -> None:
        """Note that a request has come, except for its body."""
        self._request = request

    def finish(self, now_s: float) -> None:
        """Note that the request's handler has finished."""
        self._request = None
        self._since_s = now_s

    def why_overdue(self, now_s: float) -> str | None:
        """Return why the connection is to be ended: `half_sent`, `not_taken` or `idle`; else None."""
        unsent, self._untaken_bytes = self._untaken_bytes, self._unsent_bytes()
        if self._untaken_bytes == 0 or self._untaken_bytes < unsent:
            self._taken_s = now_s
        if self._untaken_bytes:
            return "not_taken" if now_s - self._taken_s > TAKE_S else None
        if self._request is not None and self._request.content.is_eof():
            return None
        if self._request is not None or self._has_begun:
            return "half_sent" if now_s - self._since_s > WHOLE_REQUEST_S else None
        return "idle" if now_s - self._since_s > IDLE_S else None

    def end(self) -> None:
        """Abort the connection: the client might not take an orderly close."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection on, or abort it if there is no room."""
        connection = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        if not self._connections.admit(self):
            connection.abort()
            return
        self._transport = connection
        self.protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on bytes."""
        if not self._has_begun and self._request is None:
            self._since_s = time.monotonic()
        self._has_begun = not data.endswith(_END_OF_HEAD)
        self.protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that the client sends no more."""
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection has ended."""
        self._connections.forget(self)
        if self._transport is not None:
            self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the send buffer is full."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the send buffer has room again."""
        self.protocol.resume_writing()

    def _unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
