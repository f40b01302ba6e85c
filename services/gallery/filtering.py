"""Pages of the faces that pass a filter: a bounded number of faces is read for each."""

import asyncio
from dataclasses import dataclass, replace

from services.common.storage.keys import FaceKey
from services.common.storage.visit_lookup import VisitLookup
from services.gallery.album import Album, Page
from services.gallery.selection import PageSelection

MOST_LOOKED_AT = 600
"""Faces read for one page; each is a request where it is not known yet."""
BATCH = 300
"""Faces of one listing."""
STEP = 60
"""Faces read together: more would be wasted where the first ones pass."""
PATIENCE_S = 4.0
"""Longest time that faces are read for one page."""


@dataclass(frozen=True, slots=True)
class FilteredPage:
    """A page of faces that pass the filter.

    Attributes:
        page: the faces that passed; the pages before and after it begin where reading stopped.
        looked_at: faces that were read; 0 without a filter.
        is_cut: whether reading stopped at a bound, so that further faces may pass.
    """

    page: Page
    looked_at: int = 0
    is_cut: bool = False


async def filtered_page(
    album: Album, lookup: VisitLookup, selection: PageSelection, count: int
) -> FilteredPage:
    """Return a page of the faces that are selected and pass the selection's filter.

    Args:
        album: lists faces.
        lookup: returns their visits and sizes, and reads objects where it has to.
        selection: which faces, and the filter.
        count: faces on a page.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    if selection.face_filter.is_open:
        return FilteredPage(await album.page(selection, count))
    walk = _Walk(album, lookup, await album.page(selection, BATCH), selection)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await walk.run(count)
    except TimeoutError:
        walk.is_cut = True
    return FilteredPage(walk.page(), walk.looked_at, walk.is_cut)


class _Walk:
    """Reads a day from one page to the next, towards newer or older faces, and keeps what passes."""

    def __init__(self, album: Album, lookup: VisitLookup, first: Page, selection: PageSelection) -> None:
        self._album, self._lookup, self._first = album, lookup, first
        self._here = selection.at(first.day, before=selection.before, after=selection.after)
        self._is_upward = selection.after is not None
        self._taken: list[FaceKey] = []
        self._edge: FaceKey | None = None
        self._has_more = True
        self.looked_at = 0
        self.is_cut = False

    async def run(self, count: int) -> None:
        """Read faces until `count` have passed, there are no more, or the bound is reached."""
        page: Page | None = self._first
        while page is not None and page.faces:
            faces = page.faces[::-1] if self._is_upward else page.faces
            for start in range(0, len(faces), STEP):
                if await self._look(faces[start : start + STEP], count):
                    self._has_more = self._edge != faces[-1] or self._onward(page) is not None
                    return
            page = await self._next(self._onward(page))
        self._has_more = self.is_cut

    async def _look(self, faces: list[FaceKey], count: int) -> bool:
        """Keep the faces that pass; say whether `count` have."""
        for face, known in zip(faces, await self._lookup.each_known(faces), strict=True):
            self._edge = face
            self.looked_at += 1
            if self._here.face_filter.takes(known):
                self._taken.append(face)
            if len(self._taken) == count:
                return True
        return False

    def page(self) -> Page:
        """Return the faces that passed, as a page."""
        faces = self._taken[::-1] if self._is_upward else self._taken
        nearer = self._here.before or self._here.after
        first = self._first.faces[-1 if self._is_upward else 0] if self._first.faces else None
        down, up = (first, self._edge) if self._is_upward else (self._edge, first)
        has_older = self._has_more or self._is_upward
        has_newer = self._has_more if self._is_upward else nearer is not None
        return replace(
            self._first,
            faces=faces,
            older=self._at(before=down.id) if down is not None and has_older else None,
            newer=self._at(after=up.id) if up is not None and has_newer else None,
        )

    def _at(self, *, before: str | None = None, after: str | None = None) -> PageSelection:
        return self._here.at(self._here.day, before=before, after=after)

    def _onward(self, page: Page) -> PageSelection | None:
        return page.newer if self._is_upward else page.older

    async def _next(self, onward: PageSelection | None) -> Page | None:
        if onward is None:
            return None
        if self.looked_at >= MOST_LOOKED_AT:
            self.is_cut = True
            return None
        return await self._album.page(onward, BATCH)
