"""Faces by visit: those of a page, or all pictures of one visit."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from services.common.runtime.metrics import Drops
from services.common.storage.keys import FaceKey, camera_folder
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.storage.visits import Group, Picture, grouped
from services.common.wire import times
from services.common.wire.topics import Source
from services.gallery import reading
from services.gallery.metrics import UNREAD
from services.gallery.selection import day_of

PATIENCE_S = 3.0
"""Longest time that a page waits to learn the visits of its faces."""
MOST_LOOKED_AT = 100
"""Faces read for one visit: from its beginning on, and as many before the face that is shown."""

_unread = Drops(UNREAD, "gallery.visit_unread")


@dataclass(frozen=True, slots=True)
class FacesByVisit:
    """A page's faces by visit.

    Attributes:
        groups: each where its newest picture is, newest first.
        is_late: whether the visits of some could not be read in time, so that these stand alone.
    """

    groups: list[Group]
    is_late: bool = False


NEAR = 40
"""Faces on either side of a visit that are read to find the visits next to it."""


@dataclass(frozen=True, slots=True)
class AdjacentVisits:
    """The visits next to one, by their newest pictures, on its camera and day; None at an end."""

    newer: Group | None = None
    older: Group | None = None


@dataclass(frozen=True, slots=True)
class WholeVisit:
    """All pictures of one visit that were found.

    Attributes:
        group: its pictures.
        is_cut: whether there are more faces that were not read and may belong to it.
        is_late: whether some faces could not be read in time.
    """

    group: Group
    is_cut: bool
    is_late: bool


class VisitReader:
    """Groups faces by visit, and finds the pictures of a visit.

    Args:
        objects: the store.
        lookup: returns the visit of a face, and reads the object where it has to.
    """

    def __init__(self, objects: ObjectStore, lookup: VisitLookup) -> None:
        self._objects = objects
        self._lookup = lookup

    async def group_by_visit(self, faces: Iterable[FaceKey]) -> FacesByVisit:
        """Return faces (newest first) by visit; one read at most for each face that is not known yet."""
        pictures, is_late = await self._look(faces)
        return FacesByVisit(grouped(pictures), is_late)

    async def whole(self, key: FaceKey) -> WholeVisit | None:
        """Return all pictures of the visit that a face belongs to, or None where it belongs to none.

        The camera's first `MOST_LOOKED_AT` faces from the visit's beginning on are read; where these do not
        reach the face, which may be days later, also as many before it.

        Raises:
            StoreUnavailable: the face, or a listing, cannot be read.
        """
        part = await self._lookup.of(key)
        if part is None:
            return None
        first = await self._onward(key.source, min(part.began, key.time))
        last = [] if key in first else await self._back(key)
        keys = {each.id: each for each in (*first, *last)}
        pictures, is_late = await self._look(keys[face_id] for face_id in sorted(keys, reverse=True))
        mine = [picture for picture in pictures if picture.part and picture.part.visit == part.visit]
        group = Group.of(mine or [Picture(key, part)])
        return WholeVisit(group, bool(last) or len(first) == MOST_LOOKED_AT, is_late)

    async def adjacent(self, group: Group) -> AdjacentVisits:
        """Return the visits next to one that could be read in time; visits may overlap.

        Raises:
            StoreUnavailable: a listing cannot be read.
        """
        newest = group.pictures[0].key
        folder = camera_folder(newest.source, day_of(newest).isoformat())
        newer = await reading.earliest(self._objects, folder, after=newest.id, count=NEAR)
        older = await reading.latest(self._objects, folder, before=newest.id, count=NEAR)
        pictures, _is_late = await self._look([*reversed(newer), newest, *older])
        groups = grouped(pictures)
        place = next(at for at, each in enumerate(groups) if newest in (one.key for one in each.pictures))
        return AdjacentVisits(
            groups[place - 1] if place > 0 else None,
            groups[place + 1] if place + 1 < len(groups) else None,
        )

    async def _onward(self, source: Source, began: datetime) -> list[FaceKey]:
        """Return the first faces from a time on, of two days: a visit may last over midnight."""
        found: list[FaceKey] = []
        day = began.date()
        for each in (day, day + timedelta(days=1)) if day < date.max else (day,):
            if (left := MOST_LOOKED_AT - len(found)) > 0:
                folder = camera_folder(source, each.isoformat())
                found += await reading.onward(self._objects, folder, times.compact(began), left)
        return found

    async def _back(self, key: FaceKey) -> list[FaceKey]:
        """Return a face and those before it on its day."""
        folder = camera_folder(key.source, day_of(key).isoformat())
        older = await reading.latest(self._objects, folder, before=key.id, count=MOST_LOOKED_AT - 1)
        return [key, *older]

    async def _look(self, faces: Iterable[FaceKey]) -> tuple[list[Picture], bool]:
        """Return faces with their parts in visits, and whether some could not be read.

        After the first that cannot be read the others are not tried: the store does not work.
        """
        keys = list(faces)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._lookup.each(keys), False
        except TimeoutError:
            why = "timeout"
        except StoreUnavailable as error:
            why = error.reason
        for key in keys:
            if not self._lookup.knows(key):
                _unread.count(why, key=str(key))
        return [Picture(key, self._lookup.recall(key)) for key in keys], True
