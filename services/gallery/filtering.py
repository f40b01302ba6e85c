"""A page of the faces that a sieve takes: others are looked at on the way, so many and no more."""

import asyncio
from dataclasses import dataclass, replace

from services.common.storage.keys import FaceKey
from services.common.storage.visit_lookup import VisitLookup
from services.gallery.album import Album, Page
from services.gallery.selection import PageSelection

MOST_LOOKED_AT = 600
"""Faces that are asked for one page what they are; each is a request, where nothing is known of it yet."""
BATCH = 300
"""Faces of one listing."""
STEP = 60
"""Faces that are asked together: more would be asked in vain where the first pass."""
PATIENCE_S = 4.0
"""For so long are they asked for one page."""


@dataclass(frozen=True, slots=True)
class FilteredPage:
    """A page, and how it came about.

    Attributes:
        page: the faces that were taken; what leads on from it is behind all that were looked at.
        looked_at: how many were; 0 without a sieve.
        is_cut: whether there are more that were not looked at, because they are many or the store is slow.
    """

    page: Page
    looked_at: int = 0
    is_cut: bool = False


async def filtered_page(
    album: Album, lookup: VisitLookup, selection: PageSelection, count: int
) -> FilteredPage:
    """Return the page that is asked for.

    Args:
        album: has the faces.
        lookup: knows what they are, or reads it.
        selection: which, and the sieve.
        count: faces on a page.

    Raises:
        StoreUnavailable: none can be read.
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
    """Goes through a day from one page to the next, upward or downward."""

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
        """Look at faces until so many are taken, or there are no more, or enough were looked at."""
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
        """Take those that pass; say whether there are so many now."""
        for face, known in zip(faces, await self._lookup.each_known(faces), strict=True):
            self._edge = face
            self.looked_at += 1
            if self._here.face_filter.takes(known):
                self._taken.append(face)
            if len(self._taken) == count:
                return True
        return False

    def page(self) -> Page:
        """Return what was taken, as a page."""
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
