"""The faces, page by page, newest first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from services.common.storage.keys import FaceKey, camera_folder, day_folder, day_in
from services.common.storage.listing import LISTINGS_AT_A_TIME
from services.common.storage.objects import ObjectStore
from services.common.topics import Source, is_name
from services.common.turns import Turns
from services.gallery import reading
from services.gallery.selection import Selection, day_of

DAYS_BACK = 31
"""How far back the newest faces of one device or camera are looked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some faces of one day.

    Attributes:
        day: the day, UTC; nothing where nothing is stored.
        faces: newest first.
        older: where those before them are, on this day; nothing if there are none.
        newer: where those behind them are.
        sources: all cameras that have faces on that day.
        day_before: the nearest day before it that has any, and
        day_after: the nearest after it.
    """

    day: date | None
    faces: list[FaceKey]
    older: Selection | None = None
    newer: Selection | None = None
    sources: tuple[Source, ...] = ()
    day_before: date | None = None
    day_after: date | None = None


class Album:
    """Reads the store; every listing is of one camera's day, or of folders.

    Args:
        objects: the store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._turns = Turns(LISTINGS_AT_A_TIME)

    async def days(self) -> list[date]:
        """Return the days that have faces, oldest first."""
        return sorted(day for path in await self._objects.folders("") if (day := day_in(path)) is not None)

    async def sources(self, day: date, device: str | None = None) -> tuple[Source, ...]:
        """Return the cameras that have faces on a day, in order; of one device alone, if it is named."""
        devices = [device] if device else await self._names(day_folder(day.isoformat()), "device=")
        found = await self._turns.each(
            devices, lambda name: self._names(f"{day_folder(day.isoformat())}/device={name}", "camera=")
        )
        return tuple(
            Source(name, camera) for name, cameras in zip(devices, found, strict=True) for camera in cameras
        )

    async def page(self, selection: Selection, count: int) -> Page:
        """Return the page that is asked for; without a day, the newest that has faces of those cameras."""
        days = await self.days()
        if selection.day is not None:
            return await self._page_of(selection.day, days, selection, count)
        page = Page(None, [])
        for day in days[: -1 - DAYS_BACK : -1]:
            page = await self._page_of(day, days, selection, count)
            if page.faces:
                break
        return page

    async def neighbours(self, face: FaceKey) -> tuple[FaceKey | None, FaceKey | None]:
        """Return the faces of the same camera and day next to one: the newer and the older."""
        day = day_of(face)
        folder = camera_folder(face.source, day.isoformat())
        newer = await reading.earliest(self._objects, folder, after=face.id, count=1)
        older = await reading.latest(self._objects, folder, before=face.id, count=1)
        return newer[0] if newer else None, older[0] if older else None

    async def lasts(self, sources: Iterable[Source], days: Sequence[date]) -> list[FaceKey | None]:
        """Return each camera's newest face, looked for on `days` in their order."""
        return await self._turns.each(sources, lambda source: self._last(source, days))

    async def _page_of(self, day: date, days: list[date], selection: Selection, count: int) -> Page:
        sources = await self.sources(day)
        selected = [source for source in sources if selection.takes(source)]
        here = selection.at(day, before=selection.before, after=selection.after)
        faces, has_more = await self._faces(selected, here, count)
        is_upward = selection.after is not None
        return Page(
            day,
            faces,
            older=here.at(day, before=faces[-1].id) if faces and (has_more or is_upward) else None,
            newer=_newer(here, faces, has_more=has_more),
            sources=sources,
            day_before=max((other for other in days if other < day), default=None),
            day_after=min((other for other in days if other > day), default=None),
        )

    async def _faces(
        self, sources: list[Source], selection: Selection, count: int
    ) -> tuple[list[FaceKey], bool]:
        """Return a page's faces, newest first, and whether there are more in the direction it was read in."""
        if selection.after is not None:
            found = await self._turns.each(
                sources, lambda source: self._earliest(source, selection, count + 1)
            )
            merged = sorted((key for keys in found for key in keys), key=_order)
            return merged[:count][::-1], len(merged) > count
        found = await self._turns.each(sources, lambda source: self._latest(source, selection, count + 1))
        merged = sorted((key for keys in found for key in keys), key=_order, reverse=True)
        return merged[:count], len(merged) > count

    async def _latest(self, source: Source, selection: Selection, count: int) -> list[FaceKey]:
        assert selection.day is not None
        folder = camera_folder(source, selection.day.isoformat())
        return await reading.latest(self._objects, folder, before=selection.before, count=count)

    async def _last(self, source: Source, days: Sequence[date]) -> FaceKey | None:
        for day in days:
            found = await self._latest(source, Selection(day=day), 1)
            if found:
                return found[0]
        return None

    async def _earliest(self, source: Source, selection: Selection, count: int) -> list[FaceKey]:
        assert selection.day is not None
        assert selection.after is not None
        folder = camera_folder(source, selection.day.isoformat())
        return await reading.earliest(self._objects, folder, after=selection.after, count=count)

    async def _names(self, folder: str, prefix: str) -> list[str]:
        """Return the names in the folders `{folder}/{prefix}{name}`."""
        ends = [path.rpartition("/")[2] for path in await self._objects.folders(folder)]
        names = [end.removeprefix(prefix) for end in ends if end.startswith(prefix)]
        return [name for name in names if is_name(name)]


def _newer(here: Selection, faces: list[FaceKey], *, has_more: bool) -> Selection | None:
    if not faces or (here.after is None and here.before is None):
        return None
    if here.after is not None and not has_more:
        return None
    return here.at(here.day, after=faces[0].id)


def _order(key: FaceKey) -> str:
    return key.id
