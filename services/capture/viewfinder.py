"""What a camera sees, for whoever aims it: as a still, as multipart JPEG, and where in it faces are.

Nothing is encoded while nobody looks; what is passed through is never encoded at all.
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

MAX_LOOKERS = 8
"""Streams at a time, of all cameras together."""
MAX_FPS = 10.0
MAX_BYTES = 8 * 1024 * 1024
FRESH_S = 2.0
"""An older picture is not shown as what the camera sees now."""
PATIENCE_S = 5.0
"""For so long is a still's picture waited for, and a looker that takes nothing."""
GLANCE_S = 1.0
"""So often is a looker looked at while its camera gives no picture."""
PATH = "/live"

_BOUNDARY = "faceferry"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Seconds until the first question, between questions, questions; milliseconds for what was sent. tcp(7).
_LINE_OPTIONS = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}


class Viewfinder:
    """Holds a camera's newest picture.

    Args:
        encoder: makes it JPEG when somebody looks; one of its own, for lookers must not lower the quality
            of what detect gets.
    """

    def __init__(self, encoder: JpegEncoder) -> None:
        self._encoder = encoder
        self.latest = LatestPicture()
        self._seen: Outlines | None = None
        self._seen_s = 0.0

    def saw(self, outlines: Outlines | None) -> None:
        """Take where faces are in the picture that detect looked at last."""
        self._seen, self._seen_s = outlines, time.monotonic()

    @property
    def seen(self) -> Outlines | None:
        """Where faces were a moment ago, or None where there were none, or detect has not looked lately."""
        return self._seen if time.monotonic() - self._seen_s <= FRESH_S else None

    async def next(self, *, after: Picture | None = None) -> Picture:
        """Return the newest picture as soon as it is not `after`; without `after`, as soon as it is fresh."""
        since_s = time.monotonic() - FRESH_S if after is None else -math.inf
        return await self.latest.next(after=after, since_s=since_s)

    async def encode(self, picture: Picture) -> bytes:
        """Return a picture's JPEG.

        Raises:
            Refused: it cannot be made one.
        """
        return await to_jpeg(picture, self._encoder, MAX_BYTES)


def routes(
    finders: Mapping[str, Viewfinder], guard: Guard | None, *, is_loopback: bool
) -> list[web.RouteDef]:
    """Return `/live`, `/live/{camera}.jpg`, `/live/{camera}.mjpeg` and `/live/{camera}.json`.

    Args:
        finders: each camera's, by name.
        guard: knows the token, if there is one.
        is_loopback: only this machine can ask; otherwise nothing is shown without a token.
    """
    gate = _Gate(guard, is_loopback=is_loopback)
    screen = _Screen(finders)
    return [
        web.get(PATH, gate(screen.index)),
        web.get(PATH + "/{camera}.jpg", gate(screen.still), allow_head=False),
        web.get(PATH + "/{camera}.json", gate(screen.outlines), allow_head=False),
        web.get(PATH + "/{camera}.mjpeg", gate(screen.stream), allow_head=False),
    ]


class _Gate:
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


class _Screen:
    def __init__(self, finders: Mapping[str, Viewfinder]) -> None:
        self._finders = finders
        self._streams = 0

    async def index(self, _request: web.Request) -> web.Response:
        names = [escape(name) for name in self._finders]
        items = "".join(
            f'<h1>{name}</h1><p><img src="{PATH}/{name}.mjpeg" alt="What {name} sees"></p>' for name in names
        )
        text = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Live</title>{items}</html>'
        policy = {"Content-Security-Policy": "default-src 'none'; img-src 'self'; frame-ancestors 'none'"}
        return web.Response(text=text, content_type="text/html", headers=_HEADERS | policy)

    async def still(self, request: web.Request) -> web.Response:
        finder = self._finder(request)
        try:
            async with asyncio.timeout(PATIENCE_S):
                jpeg = await finder.encode(await finder.next())
        except (TimeoutError, Refused):
            raise web.HTTPServiceUnavailable(text="the camera gives no picture\n", headers=_HEADERS) from None
        return web.Response(body=jpeg, content_type="image/jpeg", headers=_HEADERS)

    async def outlines(self, request: web.Request) -> web.Response:
        seen = self._finder(request).seen
        return web.json_response(seen.body if seen is not None else {}, headers=_HEADERS)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        finder = self._finder(request)
        if self._streams >= MAX_LOOKERS:
            raise web.HTTPServiceUnavailable(text="too many are looking\n", headers=_HEADERS)
        self._streams += 1
        try:
            return await _play(request, finder)
        finally:
            self._streams -= 1

    def _finder(self, request: web.Request) -> Viewfinder:
        finder = self._finders.get(request.match_info["camera"])
        if finder is None:
            raise web.HTTPNotFound(text="there is no such camera\n", headers=_HEADERS)
        return finder


async def _play(request: web.Request, finder: Viewfinder) -> web.StreamResponse:
    """Send picture after picture, the newest each time, as fast as the looker takes them."""
    kind = {"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"}
    response = web.StreamResponse(headers=_HEADERS | kind)
    await response.prepare(request)
    _mind_the_line(request)
    picture: Picture | None = None
    with contextlib.suppress(ConnectionError, Refused):  # the looker has gone, or the camera has gone mad
        while True:
            began_s = time.monotonic()
            picture = await _wait_for_picture(request, finder, picture)
            jpeg = await finder.encode(picture)
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            await _send(request, response, head.encode() + jpeg + b"\r\n")
            await asyncio.sleep(max(0.0, 1 / MAX_FPS - (time.monotonic() - began_s)))
    return response


async def _wait_for_picture(request: web.Request, finder: Viewfinder, after: Picture | None) -> Picture:
    """Return the next picture. While there is none, look now and then whether the looker is still there.

    Raises:
        ConnectionError: it has gone; nothing is written meanwhile that would tell.
    """
    while True:
        try:
            async with asyncio.timeout(GLANCE_S):
                return await finder.next(after=after)
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the looker has gone") from None


async def _send(request: web.Request, response: web.StreamResponse, part: bytes) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await response.write(part)
    except TimeoutError:
        # It takes nothing and does not go: a browser that is stopped. Nor would it take a goodbye.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the looker takes nothing") from None


def _mind_the_line(request: web.Request) -> None:
    """Have the kernel find out that a looker's machine has vanished, within half a minute or so."""
    line = None if request.transport is None else request.transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _LINE_OPTIONS.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)
