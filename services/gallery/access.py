"""What stands before every page: who may look, and what a browser may do with the answer."""

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
"""What a browser is to forget at sign-out; it obeys over HTTPS, and on its own machine, and nowhere else."""
_OPEN_PATHS = frozenset({"/login", "/robots.txt"})
FEEDS = frozenset({"/faces.json", "/faces.atom"})
"""Who reads these can often give a name and a password, and nothing else."""

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
    """Return an answer's headers with those that bind the browser; what the answer says itself stands."""
    return {"Cache-Control": "no-store", **_SAFETY, **headers}


class Access:
    """Lets in whoever has the token, or a session, or to an image alone a link to it.

    Args:
        token: what one has to know.
        link_s: seconds that a link is good for, see `Links`.
    """

    def __init__(self, token: str, link_s: int) -> None:
        self.guard = Guard(token)
        self.sessions = Sessions(token)
        self.links = Links(token, link_s)

    def admits(self, request: web.Request) -> bool:
        """Say whether a request's sender may look, as things are now."""
        told = request.headers.get("Authorization", "")
        if self.guard.bears(told) or (request.path in FEEDS and self.guard.accepts(told)):
            return True
        return self.sessions.admits(request.cookies.get(COOKIE, ""), time.time()) or self.has_link(request)

    def has_link(self, request: web.Request) -> bool:
        """Say whether a request is for what its sender was given a link to."""
        return self.links.admit(request.path, request.query, time.time())


def scheme_of(request: web.Request) -> str:
    """Return `https` or `http`, as the browser speaks it."""
    # A proxy that ends TLS for us says so; whoever lies here only hurts the own cookie, and the own feed.
    is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    return "https" if is_secure else "http"


def guarded_app(access: Access | None, ask_for_token: Callable[[bool], web.Response]) -> web.Application:
    """Return an application that lets nobody further without the token.

    Args:
        access: knows it; nothing where only this machine can reach the page.
        ask_for_token: returns the page that asks for it, and is told whether a wrong one was given.
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
