"""Pages of faces, newest first."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TypeVar

from services.common.runtime.concurrency import ConcurrencyLimit
from services.common.storage.keys import FaceKey, camera_folder, day_folder, day_in
from services.common.storage.listing import LISTINGS_AT_A_TIME, MOST_LISTED, last_day
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.wire.topics import Source, is_name
from services.gallery import reading
from services.gallery.cameras import (
    CALENDAR_SPAN,
    MOST_CAMERAS,
    MOST_DAYS,
    MOST_DEVICES,
    NO_CAMERAS,
    Calendar,
    CameraList,
    DayIndex,
    camera_list_of,
    limited,
)
from services.gallery.selection import PageSelection, day_of

DAYS_BACK = 31
"""How far back the newest faces of one device or camera are looked for."""

PATIENCE_S = 8.0
"""Longest time that cameras are read for a page; those without an answer are left out, which it says."""
GRACE_S = 2.0
"""Further time allowed for listing the days and cameras."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Some faces of one day.

    Attributes:
        day: UTC; None where no faces are stored.
        faces: newest first.
        older: the next page on this day; None without older faces.
        newer: the page before it on this day; None without newer faces.
        camera_list: the cameras that have faces on that day.
        shown: the cameras that were read.
        day_before: the nearest earlier day with faces, or None.
        day_after: the nearest later day with faces, or None.
        ahead: days in the future, the next first, at most `MOST_DAYS`.
        is_late: whether some cameras did not answer in time and are missing.
        is_indexed: whether it was read from the index: the cameras are too many to list each.
    """

    day: date | None
    faces: list[FaceKey]
    older: PageSelection | None = None
    newer: PageSelection | None = None
    camera_list: CameraList = NO_CAMERAS
    shown: tuple[Source, ...] = ()
    day_before: date | None = None
    day_after: date | None = None
    ahead: tuple[date, ...] = ()
    is_late: bool = False
    is_indexed: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """The cameras that have faces on that day, within the bounds."""
        return self.camera_list.sources


def utc_today() -> date:
    """Return today's date, UTC."""
    return datetime.now(UTC).date()


class Album:
    """Reads pages from the store, with a bounded number of listings of single cameras' days and of folders.

    Args:
        objects: the store.
        today: returns the date, UTC.
        day_index: finds faces of more devices than are listed; None: only some devices are listed.
    """

    def __init__(
        self, objects: ObjectStore, today: Callable[[], date] = utc_today, day_index: DayIndex | None = None
    ) -> None:
        self._objects = objects
        self._today = today
        self._day_index = day_index
        self._turns = ConcurrencyLimit(LISTINGS_AT_A_TIME)

    async def calendar(self, around: date | None = None) -> Calendar:
        """Return the days with faces around a day, by default today; three listings at most."""
        last = last_day(self._today())
        middle = around or last
        start = middle - CALENDAR_SPAN if middle - date.min > CALENDAR_SPAN else None
        found, has_more = await self._days(start)
        if start is not None and not any(day < middle for day in found):
            found |= (await self._days(None))[0]
        if middle > last or has_more:
            found |= (await self._days(last))[0]
        return Calendar(
            tuple(sorted(day for day in found if day <= last)),
            tuple(sorted(day for day in found if day > last)),
        )

    async def camera_list(self, day: date, device: str | None = None) -> CameraList:
        """Return the cameras that have faces on a day; of one device only, where it is named."""
        return await self._camera_list(day, [device] if device else await self._devices(day))

    async def _devices(self, day: date) -> list[str]:
        """Return the devices that have faces on a day: `MOST_DEVICES` and one more, at most."""
        return await self._names(day_folder(day.isoformat()), "device=", MOST_DEVICES + 1)

    async def _camera_list(self, day: date, devices: list[str]) -> CameraList:
        folder = day_folder(day.isoformat())
        found = await self._turns.each(
            devices[:MOST_DEVICES],
            lambda name: self._names(f"{folder}/device={name}", "camera=", MOST_CAMERAS + 1),
        )
        has_more = len(devices) > MOST_DEVICES
        return limited(dict(zip(devices, found, strict=False)), has_more=has_more)

    async def sources(self, day: date, device: str | None = None) -> tuple[Source, ...]:
        """Return the cameras of `camera_list`, sorted."""
        return (await self.camera_list(day, device)).sources

    async def page(self, selection: PageSelection, count: int) -> Page:
        """Return a page; without a day, of the newest day that has faces of the selected cameras.

        Raises:
            StoreUnavailable: the store cannot be read; `timeout`: it did not answer in time.
        """
        ends_s = asyncio.get_running_loop().time() + PATIENCE_S
        try:
            async with asyncio.timeout_at(ends_s + GRACE_S):
                return await self._page(selection, count, ends_s)
        except TimeoutError as error:
            raise StoreUnavailable("timeout", f"no page could be made in {PATIENCE_S} s") from error

    async def _page(self, selection: PageSelection, count: int, ends_s: float) -> Page:
        calendar = await self.calendar(selection.day)
        if selection.day is not None:
            return await self._page_of(selection.day, calendar, selection, count, ends_s)
        page = Page(None, [], ahead=calendar.ahead)
        for day in calendar.days[: -1 - DAYS_BACK : -1]:
            page = await self._page_of(day, calendar, selection, count, ends_s)
            if page.faces or page.is_late:
                break
        return page

    async def adjacent(self, face: FaceKey) -> tuple[FaceKey | None, FaceKey | None]:
        """Return the next newer and the next older face of the same camera and day, or None for each."""
        day = day_of(face)
        folder = camera_folder(face.source, day.isoformat())
        newer = await reading.earliest(self._objects, folder, after=face.id, count=1)
        older = await reading.latest(self._objects, folder, before=face.id, count=1)
        return newer[0] if newer else None, older[0] if older else None

    async def newest_faces(self, sources: Iterable[Source], days: Sequence[date]) -> list[FaceKey | None]:
        """Return each camera's newest face on `days`, tried in order; None without one, or out of time."""
        ends_s = asyncio.get_running_loop().time() + PATIENCE_S
        found, _is_late = await self._each(sources, lambda source: self._last(source, days), None, ends_s)
        return found

    async def _page_of(
        self, day: date, calendar: Calendar, selection: PageSelection, count: int, ends_s: float
    ) -> Page:
        here = selection.at(day, before=selection.before, after=selection.after)
        devices = await self._devices(day)
        is_large = self._day_index is not None and len(devices) > MOST_LISTED
        page = await self._indexed_page(here, count) if is_large and here.device is None else None
        if page is None:
            # Where there are many devices only the named one is listed.
            camera_list = await self._camera_list(day, [here.device] if is_large and here.device else devices)
            page = await self._listed_page(
                replace(camera_list, has_more=camera_list.has_more or is_large), here, count, ends_s
            )
        return replace(
            page, day_before=calendar.before(day), day_after=calendar.after(day), ahead=calendar.ahead
        )

    async def _indexed_page(self, here: PageSelection, count: int) -> Page | None:
        """Return a page from the index, for a day with many devices, or None where the index has none."""
        assert self._day_index is not None
        found = await self._day_index.faces(here, count + 1)
        if found is None:
            return None
        camera_list = replace(camera_list_of(key.source for key in found), has_more=True)
        return replace(_page(here, found, count), camera_list=camera_list, is_indexed=True)

    async def _listed_page(
        self, camera_list: CameraList, here: PageSelection, count: int, ends_s: float
    ) -> Page:
        selected = await self._selected(camera_list, here)
        found, is_late = await self._faces(selected, here, count + 1, ends_s)
        return replace(
            _page(here, found, count), camera_list=camera_list, shown=tuple(selected), is_late=is_late
        )

    async def _selected(self, camera_list: CameraList, here: PageSelection) -> list[Source]:
        """Return the cameras to read; one that is named is always read."""
        if (
            here.source in (str(source) for source in camera_list.sources)
            or here.device is None
            or camera_list.is_complete
        ):
            return [source for source in camera_list.sources if here.takes(source)]
        if here.camera is not None:
            return [Source(here.device, here.camera)]
        assert here.day is not None
        return list(await self.sources(here.day, here.device))

    async def _faces(
        self, sources: list[Source], selection: PageSelection, count: int, ends_s: float
    ) -> tuple[list[FaceKey], bool]:
        """Return the faces next to where a page begins, nearest first, and whether some may be missing."""
        is_upward = selection.after is not None
        read = self._earliest if is_upward else self._latest
        none: list[FaceKey] = []
        found, is_late = await self._each(
            sources, lambda source: read(source, selection, count), none, ends_s
        )
        merged = sorted((key for keys in found for key in keys), key=_order, reverse=not is_upward)
        return merged[:count], is_late

    async def _each(
        self, sources: Iterable[Source], read: Callable[[Source], Awaitable[T]], otherwise: T, ends_s: float
    ) -> tuple[list[T], bool]:
        """Return what is read of each camera, or `otherwise` out of time, and whether any was."""
        is_late = False

        async def in_time(source: Source) -> T:
            nonlocal is_late
            try:
                async with asyncio.timeout_at(ends_s):
                    return await read(source)
            except TimeoutError:
                is_late = True
                return otherwise

        return await self._turns.each(sources, in_time), is_late

    async def _latest(self, source: Source, selection: PageSelection, count: int) -> list[FaceKey]:
        assert selection.day is not None
        folder = camera_folder(source, selection.day.isoformat())
        return await reading.latest(self._objects, folder, before=selection.before, count=count)

    async def _last(self, source: Source, days: Sequence[date]) -> FaceKey | None:
        for day in days:
            found = await self._latest(source, PageSelection(day=day), 1)
            if found:
                return found[0]
        return None

    async def _earliest(self, source: Source, selection: PageSelection, count: int) -> list[FaceKey]:
        assert selection.day is not None
        assert selection.after is not None
        folder = camera_folder(source, selection.day.isoformat())
        return await reading.earliest(self._objects, folder, after=selection.after, count=count)

    async def _days(self, after: date | None) -> tuple[set[date], bool]:
        """Return the first days after a day, or the first of all, and whether there may be more."""
        name = day_folder(after.isoformat()) if after else ""
        paths = await self._objects.folders("", after=name, most=MOST_DAYS)
        days = {day for path in paths if (day := day_in(path)) is not None}
        return days, len(paths) >= MOST_DAYS - 1  # a folder that is no day, such as ours, may be among them

    async def _names(self, folder: str, prefix: str, most: int) -> list[str]:
        """Return the first `most` names of folders `{folder}/{prefix}{name}`."""
        paths = await self._objects.folders(folder, most=most)
        ends = [path.rpartition("/")[2] for path in paths]
        names = [end.removeprefix(prefix) for end in ends if end.startswith(prefix)]
        return [name for name in names if is_name(name)]


def _page(here: PageSelection, found: list[FaceKey], count: int) -> Page:
    """Return a page, with the selections of the pages next to it.

    Args:
        here: where the page begins.
        found: the faces next to it, the nearest first; one more than `count` where there are more.
        count: faces on a page.
    """
    is_upward, has_more = here.after is not None, len(found) > count
    faces = found[:count][::-1] if is_upward else found[:count]
    return Page(
        here.day,
        faces,
        older=here.at(here.day, before=faces[-1].id) if faces and (has_more or is_upward) else None,
        newer=_newer(here, faces, has_more=has_more),
    )


def _newer(here: PageSelection, faces: list[FaceKey], *, has_more: bool) -> PageSelection | None:
    if not faces or (here.after is None and here.before is None):
        return None
    if here.after is not None and not has_more:
        return None
    return here.at(here.day, after=faces[0].id)


def _order(key: FaceKey) -> str:
    return key.id
