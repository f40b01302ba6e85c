"""The addresses of the feeds, and the handlers that answer them."""

import time

from aiohttp import web

from services.common.runtime.http import compressed
from services.common.storage.visit_lookup import VisitLookup
from services.gallery.access import Access, scheme_of
from services.gallery.album import Album
from services.gallery.feed import NAMES, Feed
from services.gallery.filtering import filtered_page
from services.gallery.pages import Pages
from services.gallery.reading import ReadHealth
from services.gallery.selection import PageSelection
from services.gallery.visits import VisitReader


class Feeds:
    """Answers with faces by visit as JSON and Atom.

    Args:
        album: finds faces.
        lookup: knows their visits, sizes and detectors.
        visits: groups them by visit.
        health: is told that the store could be read.
        pages: renders the Atom template.
        access: signs the addresses of images; None where no token is needed.
        page_faces: faces in one answer.
    """

    def __init__(  # noqa: PLR0917 - one place wires it
        self,
        album: Album,
        lookup: VisitLookup,
        visits: VisitReader,
        health: ReadHealth,
        pages: Pages,
        access: Access | None,
        page_faces: int,
    ) -> None:
        self._album = album
        self._lookup = lookup
        self._visits = visits
        self._health = health
        self._pages = pages
        self._access = access
        self._page_faces = page_faces

    def add_to(self, app: web.Application) -> None:
        """Add the feeds to an application."""
        app.router.add_get("/faces.json", self._json, name="json")
        app.router.add_get("/faces.atom", self._atom, name="atom")

    async def _json(self, request: web.Request) -> web.StreamResponse:
        feed = await self._feed(request)
        return compressed(request, web.json_response(feed.as_json()))

    async def _atom(self, request: web.Request) -> web.StreamResponse:
        feed = await self._feed(request)
        text = self._pages.text("faces.atom", feed=feed, names=NAMES)
        return compressed(request, web.Response(text=text, content_type="application/atom+xml"))

    async def _feed(self, request: web.Request) -> Feed:
        selection = PageSelection.read(request.query)
        found = await filtered_page(self._album, self._lookup, selection, self._page_faces)
        by_visit = await self._visits.group_by_visit(found.page.faces)
        self._health.worked()
        root = f"{scheme_of(request)}://{request.host}"
        links, now_s = self._access.links if self._access else None, time.time()
        return Feed(
            selection,
            found,
            by_visit,
            address=lambda path: f"{root}{path}",
            image=lambda path: f"{root}{links.signed(path, now_s) if links else path}",
        )
