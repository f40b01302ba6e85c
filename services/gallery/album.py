"""The faces, page by page, newest first."""

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
from services.gallery.roll import (
    A_WHILE,
    MOST_CAMERAS,
    MOST_DAYS,
    MOST_DEVICES,
    NOBODY,
    Calendar,
    Crowd,
    Roll,
    call_roll,
    roll_of,
)
from services.gallery.selection import Selection, day_of

DAYS_BACK = 31
"""How far back the newest faces of one device or camera are looked for."""

PATIENCE_S = 8.0
"""For so long are cameras looked at for a page; who has not answered by then is left out, and that said."""
GRACE_S = 2.0
"""So much longer may it take to learn which cameras there are."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """Some faces of one day.

    Attributes:
        day: the day, UTC; nothing where nothing is stored.
        faces: newest first.
        older: where those before them are, on this day; nothing if there are none.
        newer: where those behind them are.
        roll: the cameras that have faces on that day.
        shown: those of them that the faces were looked for at.
        day_before: the nearest day before it that has any, and
        day_after: the nearest after it.
        ahead: days in the future, the next first, at most `MOST_DAYS` of them.
        is_late: whether some cameras did not answer in time, and so miss.
        is_indexed: whether it is of all cameras, out of the index: they are too many to look at each.
    """

    day: date | None
    faces: list[FaceKey]
    older: Selection | None = None
    newer: Selection | None = None
    roll: Roll = NOBODY
    shown: tuple[Source, ...] = ()
    day_before: date | None = None
    day_after: date | None = None
    ahead: tuple[date, ...] = ()
    is_late: bool = False
    is_indexed: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """The cameras that have faces on that day, as far as there is room for them."""
        return self.roll.sources


def utc_today() -> date:
    """Return the day, UTC."""
    return datetime.now(UTC).date()


class Album:
    """Reads the store; every listing is of one camera's day, or of folders, and their number has an end.

    Args:
        objects: the store.
        today: returns the day, UTC.
        crowd: finds the faces of more devices than are listed; without it some devices are looked at.
    """

    def __init__(
        self, objects: ObjectStore, today: Callable[[], date] = utc_today, crowd: Crowd | None = None
    ) -> None:
        self._objects = objects
        self._today = today
        self._crowd = crowd
        self._turns = ConcurrencyLimit(LISTINGS_AT_A_TIME)

    async def calendar(self, around: date | None = None) -> Calendar:
        """Return the days that have faces, around one; by default around today. Three listings at most."""
        last = last_day(self._today())
        middle = around or last
        start = middle - A_WHILE if middle - date.min > A_WHILE else None
        found, has_more = await self._days(start)
        if start is not None and not any(day < middle for day in found):
            found |= (await self._days(None))[0]
        if middle > last or has_more:
            found |= (await self._days(last))[0]
        return Calendar(
            tuple(sorted(day for day in found if day <= last)),
            tuple(sorted(day for day in found if day > last)),
        )

    async def roll(self, day: date, device: str | None = None) -> Roll:
        """Return the cameras that have faces on a day; of one device alone, if it is named."""
        return await self._roll_of(day, [device] if device else await self._devices(day))

    async def _devices(self, day: date) -> list[str]:
        """Return the devices that have faces on a day; one more than are shown, where there are more."""
        return await self._names(day_folder(day.isoformat()), "device=", MOST_DEVICES + 1)

    async def _roll_of(self, day: date, devices: list[str]) -> Roll:
        folder = day_folder(day.isoformat())
        found = await self._turns.each(
            devices[:MOST_DEVICES],
            lambda name: self._names(f"{folder}/device={name}", "camera=", MOST_CAMERAS + 1),
        )
        has_more = len(devices) > MOST_DEVICES
        return call_roll(dict(zip(devices, found, strict=False)), has_more=has_more)

    async def sources(self, day: date, device: str | None = None) -> tuple[Source, ...]:
        """Return those cameras, in order."""
        return (await self.roll(day, device)).sources

    async def page(self, selection: Selection, count: int) -> Page:
        """Return the page that is asked for; without a day, the newest that has faces of those cameras.

        Raises:
            StoreUnavailable: also `timeout`, where no day could be looked at in time.
        """
        ends_s = asyncio.get_running_loop().time() + PATIENCE_S
        try:
            async with asyncio.timeout_at(ends_s + GRACE_S):
                return await self._page(selection, count, ends_s)
        except TimeoutError as error:
            raise StoreUnavailable("timeout", f"no page could be made in {PATIENCE_S} s") from error

    async def _page(self, selection: Selection, count: int, ends_s: float) -> Page:
        calendar = await self.calendar(selection.day)
        if selection.day is not None:
            return await self._page_of(selection.day, calendar, selection, count, ends_s)
        page = Page(None, [], ahead=calendar.ahead)
        for day in calendar.days[: -1 - DAYS_BACK : -1]:
            page = await self._page_of(day, calendar, selection, count, ends_s)
            if page.faces or page.is_late:
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
        """Return each camera's newest face, looked for on `days` in their order, as far as there is time."""
        ends_s = asyncio.get_running_loop().time() + PATIENCE_S
        found, _is_late = await self._each(sources, lambda source: self._last(source, days), None, ends_s)
        return found

    async def _page_of(
        self, day: date, calendar: Calendar, selection: Selection, count: int, ends_s: float
    ) -> Page:
        here = selection.at(day, before=selection.before, after=selection.after)
        devices = await self._devices(day)
        is_crowd = self._crowd is not None and len(devices) > MOST_LISTED
        page = await self._crowded(here, count) if is_crowd and here.device is None else None
        if page is None:
            # Of a crowd one device alone is looked at, where it is named.
            roll = await self._roll_of(day, [here.device] if is_crowd and here.device else devices)
            page = await self._listed(replace(roll, has_more=roll.has_more or is_crowd), here, count, ends_s)
        return replace(
            page, day_before=calendar.before(day), day_after=calendar.after(day), ahead=calendar.ahead
        )

    async def _crowded(self, here: Selection, count: int) -> Page | None:
        """Return the page of a day that has more devices than are listed, or None where no index has it."""
        assert self._crowd is not None
        found = await self._crowd.faces(here, count + 1)
        if found is None:
            return None
        roll = replace(roll_of(key.source for key in found), has_more=True)
        return replace(_page(here, found, count), roll=roll, is_indexed=True)

    async def _listed(self, roll: Roll, here: Selection, count: int, ends_s: float) -> Page:
        selected = await self._selected(roll, here)
        found, is_late = await self._faces(selected, here, count + 1, ends_s)
        return replace(_page(here, found, count), roll=roll, shown=tuple(selected), is_late=is_late)

    async def _selected(self, roll: Roll, here: Selection) -> list[Source]:
        """Return the cameras that are looked at: one that is named is, however many there are."""
        if here.source in (str(source) for source in roll.sources) or here.device is None or roll.is_whole:
            return [source for source in roll.sources if here.takes(source)]
        if here.camera is not None:
            return [Source(here.device, here.camera)]
        assert here.day is not None
        return list(await self.sources(here.day, here.device))

    async def _faces(
        self, sources: list[Source], selection: Selection, count: int, ends_s: float
    ) -> tuple[list[FaceKey], bool]:
        """Return the faces next to where a page begins, the nearest first, and whether some may miss."""
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
        """Return what is read of each camera, or `otherwise` where it takes too long, and whether any did."""
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

    async def _days(self, after: date | None) -> tuple[set[date], bool]:
        """Return the first days behind one, or the first of all, and whether there may be more."""
        name = day_folder(after.isoformat()) if after else ""
        paths = await self._objects.folders("", after=name, most=MOST_DAYS)
        days = {day for path in paths if (day := day_in(path)) is not None}
        return days, len(paths) >= MOST_DAYS - 1  # one may be passed over on the way, as ours is

    async def _names(self, folder: str, prefix: str, most: int) -> list[str]:
        """Return the names in the first of the folders `{folder}/{prefix}{name}`."""
        paths = await self._objects.folders(folder, most=most)
        ends = [path.rpartition("/")[2] for path in paths]
        names = [end.removeprefix(prefix) for end in ends if end.startswith(prefix)]
        return [name for name in names if is_name(name)]


def _page(here: Selection, found: list[FaceKey], count: int) -> Page:
    """Return the page that begins somewhere, and what leads from it.

    Args:
        here: where.
        found: the faces next to it, the nearest first: one more than there is room for, where there are more.
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


def _newer(here: Selection, faces: list[FaceKey], *, has_more: bool) -> Selection | None:
    if not faces or (here.after is None and here.before is None):
        return None
    if here.after is not None and not has_more:
        return None
    return here.at(here.day, after=faces[0].id)


def _order(key: FaceKey) -> str:
    return key.id
