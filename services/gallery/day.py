"""The map of a day: a row for each camera, a mark for each quarter of an hour in which it saw a face."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

from aiohttp import web

from services.common.storage.objects import NoSuchObject
from services.common.wire import times
from services.common.wire.topics import Source
from services.gallery.album import Album
from services.gallery.cameras import MOST_CAMERAS
from services.gallery.pages import Pages
from services.gallery.reading import QUARTERS
from services.gallery.selection import PageSelection
from services.gallery.site import Context

MOST_ROWS = 48
"""Cameras of one map; a device or camera that is named is always shown."""
PATIENCE_S = 2.0
"""Longest time that the page waits for the cameras' counts."""
LEAST_STRENGTH = 0.3
"""Of the weakest mark: one face must be visible beside a thousand."""
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Mark:
    """A quarter of an hour in which a camera saw faces.

    Attributes:
        place: which quarter of the day, 0 to 95.
        count: how many faces.
        strength: opacity, `LEAST_STRENGTH` to 1.
        address: the page with its faces.
    """

    place: int
    count: int
    strength: float
    address: str

    @property
    def minutes(self) -> int:
        """When it begins, minutes from midnight, UTC."""
        return self.place * 15

    @property
    def clock(self) -> str:
        """The same as a time of day."""
        return f"{self.minutes // 60:02}:{self.minutes % 60:02}"


@dataclass(frozen=True, slots=True)
class MapRow:
    """A camera's day.

    Attributes:
        source: the camera.
        address: the page with its faces of that day.
        marks: in order of time; None while they are being counted.
    """

    source: Source
    address: str
    marks: list[Mark] | None

    @property
    def total(self) -> int:
        """Faces of the day, as far as they are counted."""
        return sum(mark.count for mark in self.marks or ())


def rows_of(selection: PageSelection, day: date, counts: Mapping[Source, list[int] | None]) -> list[MapRow]:
    """Return the rows of a map.

    Args:
        selection: the page's selection, of which each row is a part.
        day: UTC.
        counts: by camera, its faces in each quarter of an hour; None while they are being counted.
    """
    most = max((max(found) for found in counts.values() if found), default=0)
    return [_row(selection, day, source, found, most) for source, found in counts.items()]


def _row(selection: PageSelection, day: date, source: Source, found: list[int] | None, most: int) -> MapRow:
    here = selection.of(source).at(day)
    if found is None:
        return MapRow(source, f"/{here.query}", None)
    marks = [
        Mark(place, count, _strength(count, most), f"/{here.at(day, before=_end(day, place)).query}")
        for place, count in enumerate(found)
        if count
    ]
    return MapRow(source, f"/{here.query}", marks)


def _strength(count: int, most: int) -> float:
    return round(LEAST_STRENGTH + (1 - LEAST_STRENGTH) * sqrt(count / most), 2)


def _end(day: date, place: int) -> str | None:
    """Return the cursor that a quarter ends at; the day's last ends with the day."""
    return times.compact(times.midnight(day) + (place + 1) * _QUARTER) if place + 1 < QUARTERS else None


class DayMap:
    """Answers with the map of a day.

    Args:
        context: the store and what is known of the devices.
        pages: makes pages.
    """

    def __init__(self, context: Context, pages: Pages) -> None:
        self._context, self._pages = context, pages
        self._album = Album(context.objects, day_index=context.day_index)

    def add_to(self, app: web.Application) -> None:
        """Add the page to an application."""
        app.router.add_get("/day", self._show, name="day")

    async def _show(self, request: web.Request) -> web.Response:
        selection = PageSelection.read(request.query)
        calendar = await self._album.calendar(selection.day)
        day = selection.day or max(calendar.days, default=None)
        if day is None:
            raise NoSuchObject(request.path)
        camera_list = await self._album.camera_list(day, selection.device)
        named = [source for source in camera_list.sources if selection.takes(source)]
        counts = await self._context.counts.by_quarter(named[:MOST_ROWS], day, PATIENCE_S)
        self._context.health.worked()
        return self._pages.html(
            "day.html",
            day=day,
            selection=selection,
            rows=rows_of(selection, day, counts),
            more_rows=max(0, len(named) - MOST_ROWS),
            camera_list=camera_list,
            most_cameras=MOST_CAMERAS,
            day_before=calendar.before(day),
            day_after=calendar.after(day),
        )
