"""A camera's live picture over HTTP: as a still, as multipart JPEG, and where in it faces are.

Nothing is encoded while there is no viewer; pictures that are passed through are never encoded at all.
"""

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from html import escape

from aiohttp import web

from services.capture.encoder import JpegEncoder
from services.capture.live import LatestPicture, to_jpeg
from services.capture.stream.picture import Picture
from services.common.errors import Refused
from services.common.runtime.access import Guard, is_own_name
from services.common.wire.outlines import Outlines

MAX_VIEWERS = 8
"""Streams at a time, of all cameras together."""
MAX_FPS = 10.0
MAX_BYTES = 8 * 1024 * 1024
FRESH_S = 2.0
"""An older picture, in seconds, is not shown as the current one."""
TIMEOUT_S = 5.0
"""How long a still's picture is waited for, and a viewer that reads nothing, in seconds."""
CHECK_EVERY_S = 1.0
"""How often a viewer's connection is checked while its camera gives no picture, in seconds."""
PATH = "/live"

_BOUNDARY = "faceferry"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Seconds until the first probe and between probes, number of probes; milliseconds for sent data. tcp(7).
_SOCKET_OPTIONS = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}


class Viewfinder:
    """A camera's newest picture and where faces are in it.

    Args:
        encoder: for pictures that have to be encoded; not the flow's, because viewers must not lower the
            quality of what detect gets.

    Attributes:
        latest: where the camera's flow puts each picture.
    """

    def __init__(self, encoder: JpegEncoder) -> None:
        self._encoder = encoder
        self.latest = LatestPicture()
        self._seen: Outlines | None = None
        self._seen_s = 0.0

    def saw(self, outlines: Outlines | None) -> None:
        """Take where faces are in the picture that detect looked at last; None: nowhere."""
        self._seen, self._seen_s = outlines, time.monotonic()

    @property
    def seen(self) -> Outlines | None:
        """Where faces were within the last `FRESH_S`; None: nowhere, or detect has not answered since."""
        return self._seen if time.monotonic() - self._seen_s <= FRESH_S else None

    async def next(self, *, after: Picture | None = None) -> Picture:
        """Return the newest picture as soon as it is not `after`; without `after`, as soon as it is fresh."""
        since_s = time.monotonic() - FRESH_S if after is None else -math.inf
        return await self.latest.next(after=after, since_s=since_s)

    async def encode(self, picture: Picture) -> bytes:
        """Return a picture as JPEG of at most `MAX_BYTES`.

        Raises:
            Refused: `too_large` or `not_a_jpeg`.
        """
        return await to_jpeg(picture, self._encoder, MAX_BYTES)


def routes(
    viewfinders: Mapping[str, Viewfinder], guard: Guard | None, *, is_loopback: bool
) -> list[web.RouteDef]:
    """Return `/live`, `/live/{camera}.jpg`, `/live/{camera}.mjpeg` and `/live/{camera}.json`.

    Args:
        viewfinders: each camera's, by the camera's name.
        guard: checks the token; None: there is none.
        is_loopback: whether only this machine can connect; otherwise nothing is shown without a token.
    """
    access = _Access(guard, is_loopback=is_loopback)
    handlers = _Handlers(viewfinders)
    return [
        web.get(PATH, access(handlers.index)),
        web.get(PATH + "/{camera}.jpg", access(handlers.still), allow_head=False),
        web.get(PATH + "/{camera}.json", access(handlers.outlines), allow_head=False),
        web.get(PATH + "/{camera}.mjpeg", access(handlers.stream), allow_head=False),
    ]


class _Access:
    def __init__(self, guard: Guard | None, *, is_loopback: bool) -> None:
        self._guard = guard
        self._is_loopback = is_loopback

    def __call__(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if self._guard is not None:
                if not self._guard.accepts(request.headers.get("Authorization", "")):
                    wanted = {"WWW-Authenticate": 'Basic realm="faceferry, the token as password"'}
                    raise web.HTTPUnauthorized(headers=wanted, text="a token is wanted\n")
            elif not self._is_loopback:
                raise web.HTTPForbidden(
                    text="FACEFERRY_LIVE_TOKEN is not set: nothing is shown beyond this machine\n"
                )
            elif not is_own_name(request.host):
                raise web.HTTPMisdirectedRequest(text="this is for this machine alone\n")
            return await handler(request)

        return guarded


class _Handlers:
    def __init__(self, viewfinders: Mapping[str, Viewfinder]) -> None:
        self._viewfinders = viewfinders
        self._streams = 0

    async def index(self, _request: web.Request) -> web.Response:
        names = [escape(name) for name in self._viewfinders]
        items = "".join(
            f'<h1>{name}</h1><p><img src="{PATH}/{name}.mjpeg" alt="What {name} sees"></p>' for name in names
        )
        text = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Live</title>{items}</html>'
        policy = {"Content-Security-Policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'"}
        return web.Response(text=text, content_type="text/html", headers=_HEADERS | policy)

    async def still(self, request: web.Request) -> web.Response:
        viewfinder = self._viewfinder(request)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                jpeg = await viewfinder.encode(await viewfinder.next())
        except (TimeoutError, Refused):
            raise web.HTTPServiceUnavailable(text="the camera gives no picture\n", headers=_HEADERS) from None
        return web.Response(body=jpeg, content_type="image/jpeg", headers=_HEADERS)

    async def outlines(self, request: web.Request) -> web.Response:
        seen = self._viewfinder(request).seen
        return web.json_response(seen.body if seen is not None else {}, headers=_HEADERS)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        viewfinder = self._viewfinder(request)
        if self._streams >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text="too many viewers\n", headers=_HEADERS)
        self._streams += 1
        try:
            return await _play(request, viewfinder)
        finally:
            self._streams -= 1

    def _viewfinder(self, request: web.Request) -> Viewfinder:
        viewfinder = self._viewfinders.get(request.match_info["camera"])
        if viewfinder is None:
            raise web.HTTPNotFound(text="there is no such camera\n", headers=_HEADERS)
        return viewfinder


async def _play(request: web.Request, viewfinder: Viewfinder) -> web.StreamResponse:
    """Send picture after picture, the newest each time, as fast as the viewer reads them."""
    kind = {"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"}
    response = web.StreamResponse(headers=_HEADERS | kind)
    await response.prepare(request)
    _detect_dead_peer(request)
    picture: Picture | None = None
    with contextlib.suppress(ConnectionError, Refused):  # the viewer has gone, or pictures cannot be decoded
        while True:
            began_s = time.monotonic()
            picture = await _wait_for_picture(request, viewfinder, picture)
            jpeg = await viewfinder.encode(picture)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            await _send(request, response, head.encode() + jpeg + b"\r\n")
            await asyncio.sleep(max(0.0, 1 / MAX_FPS - (time.monotonic() - began_s)))
    return response


async def _wait_for_picture(request: web.Request, viewfinder: Viewfinder, after: Picture | None) -> Picture:
    """Return the next picture. While there is none, check every `CHECK_EVERY_S` that the viewer is there.

    Raises:
        ConnectionError: it has gone. No write would tell, because nothing is written meanwhile.
    """
    while True:
        try:
            async with asyncio.timeout(CHECK_EVERY_S):
                return await viewfinder.next(after=after)
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the viewer has gone") from None


async def _send(request: web.Request, response: web.StreamResponse, part: bytes) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await response.write(part)
    except TimeoutError:
        # A browser that is stopped reads nothing and does not close. It would not read an end, either.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the viewer reads nothing") from None


def _detect_dead_peer(request: web.Request) -> None:
    """Have the kernel notice within about half a minute that a viewer's machine has vanished."""
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _SOCKET_OPTIONS.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
