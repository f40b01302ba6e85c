"""HTML pages from templates, and the filters and addresses that they use."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from importlib import resources
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.objects import NoSuchObject
from services.common.storage.visits import Group
from services.common.wire import times
from services.gallery.access import add_safety
from services.gallery.selection import PageSelection, day_of

ASSETS: Final[Mapping[str, str]] = {
    "gallery.css": "text/css",
    "gallery.js": "text/javascript",
    "day.js": "text/javascript",
    "live.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Assets:
    """The static files, read once at start."""

    def __init__(self) -> None:
        folder = resources.files("services.gallery") / "static"
        self._contents = {name: (folder / name).read_bytes() for name in ASSETS}

    def __getitem__(self, name: str) -> bytes:
        """Return the content of a static file."""
        return self._contents[name]

    def address(self, name: str) -> str:
        """Return a file's address; it changes with the content, so browsers may cache it for good."""
        return f"/static/{name}?v={hashlib.sha256(self._contents[name]).hexdigest()[:12]}"

    @property
    def style_policy(self) -> str:
        """The hash by which a content security policy allows the style sheet inline."""
        digest = hashlib.sha256(self._contents["gallery.css"]).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


class Pages:
    """Renders pages.

    Args:
        assets: the static files that pages refer to.
        is_guarded: whether there is a token, hence a way to sign out.
        may_erase: whether pages offer to erase faces.
    """

    def __init__(self, assets: Assets, *, is_guarded: bool, may_erase: bool = False) -> None:
        self._assets = assets
        self._templates = Environment(
            loader=PackageLoader("services.gallery"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(asset=assets.address, is_guarded=is_guarded, may_erase=may_erase)
        self._templates.filters.update(
            bytes=readable_bytes,
            clock=clock,
            clock_on=clock_on,
            rfc3339=times.rfc3339,
            day=long_day,
            short_day=short_day,
            face_address=face_address,
            image_address=image_address,
            group_address=group_address,
            visit_address=visit_address,
        )

    def html(self, template: str, status: int = 200, **values: Any) -> web.Response:
        """Return a rendered template as an HTML response."""
        text = self.text(template, **values)
        return web.Response(text=text, status=status, content_type="text/html")

    def problem(self, status: int, title: str, detail: str) -> web.Response:
        """Return a page that says what went wrong, or what became of a request."""
        return self.html("problem.html", status, title=title, detail=detail)

    def text(self, template: str, **values: Any) -> str:
        """Return a rendered template."""
        return self._templates.get_template(template).render(**values)

    def ask_for_token(self, was_wrong: bool) -> web.Response:  # noqa: FBT001 - its name tells
        """Return the sign-in page, which needs no other file: those are behind the token, too."""
        style = self._assets["gallery.css"].decode()
        text = self._templates.get_template("login.html").render(was_wrong=was_wrong, style=style)
        policy = add_safety({})["Content-Security-Policy"]
        policy = policy.replace("style-src 'self'", f"style-src {self._assets.style_policy}")
        return web.Response(
            text=text,
            status=401,
            content_type="text/html",
            headers={
                "Content-Security-Policy": policy,
                "WWW-Authenticate": 'Bearer realm="faceferry"',
            },
        )


def key_in(request: web.Request) -> FaceKey:
    """Return the key of the face in a request's address.

    Raises:
        NoSuchObject: it is not a face's key.
    """
    key = parse_key(request.match_info["key"])
    if key is None:
        raise NoSuchObject(request.path)
    return key


def face_address(key: FaceKey) -> str:
    """Return the address of a face's page."""
    return f"/face/{key}"


def visit_address(key: FaceKey) -> str:
    """Return the address of the page of a face's visit."""
    return f"/visit/{key}"


def group_address(group: Group) -> str:
    """Return the address of a group: its visit's page, or the face's page where it is the only one."""
    return visit_address(group.pictures[0].key) if group.has_others else face_address(group.best.key)


def image_address(key: FaceKey) -> str:
    """Return the address of a face's image."""
    return f"/image/{key}"


def day_address(key: FaceKey) -> str:
    """Return the address of the page that begins with a face."""
    # Sorts after every id of that moment, this face's included.
    return f"/{PageSelection(day=day_of(key), before=times.compact(key.time) + '-' + 'f' * 32).query}"


def long_day(day: date) -> str:
    """Return a day as text: `Saturday, 31 January 2026`."""
    return f"{day:%A}, {day.day} {day:%B %Y}"


def short_day(day: date) -> str:
    """Return a day as short text: `Sat 31 Jan 2026`."""
    return f"{day:%a} {day.day} {day:%b %Y}"


def clock(time: datetime) -> str:
    """Return the time of day as `HH:MM:SS`."""
    return f"{time:%H:%M:%S}"


def clock_on(time: datetime, day: date) -> str:
    """Return the time of day, with its date where that is another day than the page's."""
    return clock(time) if time.date() == day else f"{time.day} {time:%b} {clock(time)}"


def readable_bytes(count: int) -> str:
    """Return a size as text, in bytes or kB."""
    return f"{count} bytes" if count < 1_000 else f"{count / 1_000:.1f} kB"
