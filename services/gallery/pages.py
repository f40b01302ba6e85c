"""Pages as HTML: what the templates are given, and what they are given it with."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from importlib import resources
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.common.storage.keys import FaceKey
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
    """The files that every page refers to, read once."""

    def __init__(self) -> None:
        folder = resources.files("services.gallery") / "static"
        self._contents = {name: (folder / name).read_bytes() for name in ASSETS}

    def __getitem__(self, name: str) -> bytes:
        """Return a file's content."""
        return self._contents[name]

    def address(self, name: str) -> str:
        """Return where a file is; another address for another content, so that browsers may keep it."""
        return f"/static/{name}?v={hashlib.sha256(self._contents[name]).hexdigest()[:12]}"

    @property
    def style_policy(self) -> str:
        """How a content security policy names the style sheet where a page carries it within."""
        digest = hashlib.sha256(self._contents["gallery.css"]).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


class Pages:
    """Makes pages.

    Args:
        assets: what they refer to.
        is_guarded: whether there is a token, hence a way to sign out.
        may_erase: whether somebody may erase from a page.
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
        """Return a template filled in."""
        text = self.text(template, **values)
        return web.Response(text=text, status=status, content_type="text/html")

    def text(self, template: str, **values: Any) -> str:
        """Return a template filled in, whatever it is."""
        return self._templates.get_template(template).render(**values)

    def ask_for_token(self, was_wrong: bool) -> web.Response:  # noqa: FBT001 - says what it is
        """Return the one page that is shown to those who are not let in; it refers to nothing."""
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


def face_address(key: FaceKey) -> str:
    """Return where a face is shown."""
    return f"/face/{key}"


def visit_address(key: FaceKey) -> str:
    """Return where all pictures of a face's visit are shown."""
    return f"/visit/{key}"


def group_address(group: Group) -> str:
    """Return where a group is shown: its visit's page where there is more than this face."""
    return visit_address(group.pictures[0].key) if group.has_others else face_address(group.best.key)


def image_address(key: FaceKey) -> str:
    """Return where a face's image is."""
    return f"/image/{key}"


def day_address(key: FaceKey) -> str:
    """Return the page that a face is the first of."""
    # Sorts behind every id of that moment: this face's too.
    return f"/{PageSelection(day=day_of(key), before=times.compact(key.time) + '-' + 'f' * 32).query}"


def long_day(day: date) -> str:
    """Return a day in words: `Saturday, 31 January 2026`."""
    return f"{day:%A}, {day.day} {day:%B %Y}"


def short_day(day: date) -> str:
    """Return a day in few words: `Sat 31 Jan 2026`."""
    return f"{day:%a} {day.day} {day:%b %Y}"


def clock(time: datetime) -> str:
    """Return the time of day, to the second."""
    return f"{time:%H:%M:%S}"


def clock_on(time: datetime, day: date) -> str:
    """Return the time of day as a page of that day says it: that of another day with its day."""
    return clock(time) if time.date() == day else f"{time.day} {time:%b} {clock(time)}"


def readable_bytes(count: int) -> str:
    """Return a size as people say it."""
    return f"{count} bytes" if count < 1_000 else f"{count / 1_000:.1f} kB"
