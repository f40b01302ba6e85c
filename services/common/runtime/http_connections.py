"""Whoever connects to a server of ours: how long is waited for them, and how many there may be."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.runtime.metrics import HTTP_CLOSED, Drops

MOST_CONNECTIONS: Final = 128
"""Connections at a time."""
WHOLE_REQUEST_S: Final = 10.0
"""For so long is the rest of a request waited for, of its body too, however it trickles in."""
IDLE_S: Final = 75.0
"""For so long is a connection kept for the next request: longer than proxies keep theirs."""
TAKE_S: Final = 10.0
"""A caller that takes nothing of its answer for so long is gone, or means harm."""
LOOK_EVERY_S: Final = 1.0

_END_OF_HEAD: Final = b"\r\n\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_drops = Drops(HTTP_CLOSED, "http.connection_closed")


class HttpConnections:
    """The connections to one server; more than there may be push out whoever keeps it waiting.

    Args:
        most: connections at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: dict[asyncio.Protocol, HttpConnection] = {}

    def call(self, answering: asyncio.Protocol) -> "HttpConnection":
        """Return what stands between a connection and aiohttp's own end of it."""
        return HttpConnection(answering, self)

    def admit(self, call: "HttpConnection") -> bool:
        """Take a connection, if there is room or somebody can go: the oldest that has asked for nothing."""
        if len(self._calls) >= self._most:
            _drops.count("too_many")
            idler = next((each for each in self._calls.values() if each.is_idle), None)
            if idler is None:
                return False
            idler.end()
        self._calls[call.answering] = call
        return True

    def forget(self, call: "HttpConnection") -> None:
        """Let go of a connection that has ended."""
        self._calls.pop(call.answering, None)

    @property
    def middleware(self) -> Middleware:
        """Tells a connection when a request of it is under way; the outermost of an application's."""

        @web.middleware
        async def minding(request: web.Request, handler: Handler) -> web.StreamResponse:
            call = self._calls.get(request.protocol)
            if call is None:
                return await handler(request)
            call.begin(request)
            try:
                return await handler(request)
            finally:
                call.finish(time.monotonic())

        return minding

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End connections that are overdue for as long as the context lasts."""
        minding = asyncio.create_task(self._mind(), name="http.callers")
        try:
            yield
        finally:
            minding.cancel()

    async def _mind(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            for call in list(self._calls.values()):
                reason = call.why_overdue(now_s)
                if reason is None:
                    continue
                if reason != "idle":
                    _drops.count(reason)
                call.end()


class HttpConnection(asyncio.Protocol):
    """One connection: hands on what comes, and knows what it is waited for.

    Args:
        answering: aiohttp's own protocol.
        callers: all of them.
    """

    def __init__(self, answering: asyncio.Protocol, callers: HttpConnections) -> None:
        self.answering = answering
        self._callers = callers
        self._transport: asyncio.Transport | None = None
        self._request: web.Request | None = None
        self._since_s = time.monotonic()
        # Whether a further request has: whoever connects has something to ask. A body may end otherwise than
        # a head and be taken for the beginning of one; the next request is then waited for less long.
        self._has_begun = True
        self._untaken_bytes = 0
        self._taken_s = self._since_s

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, or not yet all of it."""
        return self._request is None and not self._unsent_bytes()

    def begin(self, request: web.Request) -> None:
        """Note that all of a request but its body has come."""
        self._request = request

    def finish(self, now_s: float) -> None:
        """Note that its answer is made."""
        self._request = None
        self._since_s = now_s

    def why_overdue(self, now_s: float) -> str | None:
        """Return why the connection is to be ended: `half_sent`, `not_taken` or `idle`; else nothing."""
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
        """End the connection at once: a goodbye might not be taken."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or end at once where there is no room."""
        connection = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        if not self._callers.admit(self):
            connection.abort()
            return
        self._transport = connection
        self.answering.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come."""
        if not self._has_begun and self._request is None:
            self._since_s = time.monotonic()
        self._has_begun = not data.endswith(_END_OF_HEAD)
        self.answering.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that no more will come."""
        return self.answering.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection has ended."""
        self._callers.forget(self)
        if self._transport is not None:
            self.answering.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the caller takes less than it is given."""
        self.answering.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that it has taken it."""
        self.answering.resume_writing()

    def _unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()
