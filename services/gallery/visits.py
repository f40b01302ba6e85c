"""The pictures of visits, as pages show them: looked up for a page's faces, or all of one visit."""

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
"""For so long may a page wait to learn which of its faces are of one visit."""
MOST_LOOKED_AT = 100
"""Faces that are asked whether they are of one visit: from its beginning on, and as many back again."""

_unread = Drops(UNREAD, "gallery.visit_unread")


@dataclass(frozen=True, slots=True)
class FacesByVisit:
    """A page's faces by visit.

    Attributes:
        groups: each where its newest picture is, newest first.
        is_late: whether some could not be asked in time, and so stand by themselves.
    """

    groups: list[Group]
    is_late: bool = False


NEAR = 40
"""Faces on either side of a visit among which its neighbours are looked for."""


@dataclass(frozen=True, slots=True)
class AdjacentVisits:
    """The visits next to one on its camera and day, each where its newest picture is; nothing at an end."""

    newer: Group | None = None
    older: Group | None = None


@dataclass(frozen=True, slots=True)
class WholeVisit:
    """All pictures of one visit, as far as they were looked for.

    Attributes:
        group: its pictures.
        is_cut: whether there are faces that were not looked at, and may be pictures of it.
        is_late: whether some faces could not be asked in time.
    """

    group: Group
    is_cut: bool
    is_late: bool


class VisitReader:
    """Puts faces together that are pictures of one visit.

    Args:
        objects: the store.
        lookup: knows to which visit a face belongs, or reads it.
    """

    def __init__(self, objects: ObjectStore, lookup: VisitLookup) -> None:
        self._objects = objects
        self._lookup = lookup

    async def group_by_visit(self, faces: Iterable[FaceKey]) -> FacesByVisit:
        """Return faces (newest first) by visit; one read at most for each face, none for those known."""
        pictures, is_late = await self._look(faces)
        return FacesByVisit(grouped(pictures), is_late)

    async def whole(self, key: FaceKey) -> WholeVisit | None:
        """Return all pictures of the visit that a face belongs to, or None where it belongs to none.

        They are looked for among the camera's first faces from the visit's beginning on, and where that does
        not reach the face, which may be days later, among those before it.

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
        """Return a visit's neighbours, as far as they can be told in time: visits may lie in one another.

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
        """Return the first faces from a time on, of two days: a visit may lie over midnight."""
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

        Where one cannot be read the others are left alone: the store is in trouble.
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
