"""Days on which many devices have seen somebody: the index says what a listing of each device would."""

from datetime import date

from services.common.storage.index.reading import Index
from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey
from services.common.storage.objects import Files, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.gallery.selection import Selection

LAST = "~"
"""Sorts behind everything that may follow in a name."""


class Crowd:
    """Finds faces of all cameras together.

    Args:
        files: the store.
        lookup: is told what the index says of their visits.
    """

    def __init__(self, files: Files, lookup: VisitLookup) -> None:
        self._index = Index(files)
        self._lookup = lookup

    async def faces(self, selection: Selection, count: int) -> list[FaceKey] | None:
        """Return the faces of a day next to where a page begins, the nearest first.

        Nothing is returned where the index has none there, or cannot be read.

        Args:
            selection: all cameras; the day, and where on it.
            count: at most so many.
        """
        assert selection.day is not None
        try:
            rows = await self._rows(selection.day, selection, count)
        except StoreUnavailable:
            return None  # the listing that is tried instead says what is wrong
        for row in rows:
            self._lookup.learn(row)
        return [row.key for row in rows] or None

    async def counts(self, day: date) -> list[int]:
        """Return how many faces the index has in each hour of a day, UTC: 24 numbers."""
        return await self._index.counts(day)

    async def _rows(self, day: date, selection: Selection, count: int) -> list[Row]:
        if selection.after is not None:
            return await self._index.earliest(day, f"{selection.after}{LAST}", count)
        return await self._index.latest(day, selection.before or "", count)
