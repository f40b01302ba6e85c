"""Access control: who may look, and the headers that restrict what a browser does with answers."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from services.common.runtime.access import SESSION_S, Guard, Sessions, is_own_name
from services.common.runtime.metrics import Drops
from services.gallery.links import Links
from services.gallery.metrics import REFUSED

COOKIE = "faceferry_gallery"
MAX_FORM_BYTES = 4_096
CLEAR = '"cache", "cookies", "storage"'
"""What a browser deletes at sign-out; it obeys over HTTPS and on `localhost` only."""
_OPEN_PATHS = frozenset({"/login", "/robots.txt"})
FEEDS = frozenset({"/faces.json", "/faces.atom"})
"""Many feed readers can send only a name and a password."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SAFETY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_drops = Drops(REFUSED, "gallery.request_refused")


def add_safety(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with the safe defaults added; those that are given stay as they are."""
    return {"Cache-Control": "no-store", **_SAFETY, **headers}


class Access:
    """Admits requests with the token or a session, and to single images those with a signed link.

    Args:
        token: the gallery's.
        link_s: seconds that a link is valid, see `Links`.
    """

    def __init__(self, token: str, link_s: int) -> None:
        self.guard = Guard(token)
        self.sessions = Sessions(token)
        self.links = Links(token, link_s)

    def admits(self, request: web.Request) -> bool:
        """Say whether a request is admitted at this moment."""
        told = request.headers.get("Authorization", "")
        if self.guard.bears(told) or (request.path in FEEDS and self.guard.accepts(told)):
            return True
        return self.sessions.admits(request.cookies.get(COOKIE, ""), time.time()) or self.has_link(request)

    def has_link(self, request: web.Request) -> bool:
        """Say whether a request has a valid signed link to what it asks for."""
        return self.links.admit(request.path, request.query, time.time())


def scheme_of(request: web.Request) -> str:
    """Return `https` or `http`, as the browser uses it."""
    # A proxy that terminates TLS says so; a client that lies here only harms its own cookie and feed.
    is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    return "https" if is_secure else "http"


def guarded_app(access: Access | None, ask_for_token: Callable[[bool], web.Response]) -> web.Application:
    """Return an application that refuses requests without the token.

    Args:
        access: decides; None: only requests to this machine's own names are answered.
        ask_for_token: returns the sign-in page; its argument says whether a wrong token was given.
    """

    @web.middleware
    async def binding(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            _bind(answer)
            raise
        if not response.prepared:
            _bind(response)
        return response

    @web.middleware
    async def admitting(request: web.Request, handler: Handler) -> web.StreamResponse:
        if access is None:
            if not is_own_name(request.host):
                _drops.count("foreign_host", host=request.host[:100])
                raise web.HTTPMisdirectedRequest(text="this page is for this machine alone\n")
        elif request.path not in _OPEN_PATHS and not access.admits(request):
            return _refuse(request, ask_for_token)
        return await handler(request)

    app = web.Application(middlewares=[binding, admitting], client_max_size=MAX_FORM_BYTES)
    app.router.add_get("/robots.txt", _robots)
    if access is not None:
        app.router.add_post("/login", _login(access, ask_for_token))
        app.router.add_post("/logout", _logout(access))
    return app


def _bind(response: web.StreamResponse) -> None:
    for name, value in add_safety({}).items():
        response.headers.setdefault(name, value)


def _refuse(request: web.Request, ask_for_token: Callable[[bool], web.Response]) -> web.Response:
    if "text/html" in request.headers.get("Accept", "") and request.method == "GET":
        return ask_for_token(False)
    answer = web.Response(
        status=401, text="a token is wanted\n", headers={"WWW-Authenticate": 'Bearer realm="faceferry"'}
    )
    if request.path in FEEDS:
        answer.headers.add("WWW-Authenticate", 'Basic realm="faceferry", charset="UTF-8"')
    return answer


def _login(access: Access, ask_for_token: Callable[[bool], web.Response]) -> Handler:
    async def login(request: web.Request) -> web.StreamResponse:
        token = (await request.post()).get("token", "")
        if not isinstance(token, str) or not access.guard.knows(token.strip()):
            _drops.count("wrong_token", remote=request.remote)
            return ask_for_token(True)
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(
            COOKIE,
            access.sessions.begin(time.time()),
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=scheme_of(request) == "https",
            path="/",
        )
        raise answer

    return login


def _logout(access: Access) -> Handler:
    async def logout(request: web.Request) -> web.StreamResponse:
        access.sessions.end(request.cookies.get(COOKIE, ""), time.time())
        answer = web.HTTPSeeOther("/", headers={"Clear-Site-Data": CLEAR})
        answer.del_cookie(COOKIE, path="/")
        raise answer

    return logout


async def _robots(_request: web.Request) -> web.Response:
    return web.Response(text="User-agent: *\nDisallow: /\n")
