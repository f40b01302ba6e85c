"""Which days and cameras are looked at. Their names come from devices, and any device may invent some."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice, zip_longest

from services.common.storage.index.reading import Index
from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey
from services.common.storage.objects import FileStore, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.topics import Source
from services.gallery.selection import PageSelection

MOST_DEVICES = 128
MOST_CAMERAS = 64
"""Cameras of one device, the first by name; whoever names another sees that."""
MOST_SOURCES = 256
"""Cameras of all devices together."""
MOST_DAYS = 1_000
"""Names of one listing: one answer of S3."""
CALENDAR_SPAN = timedelta(days=900)
"""Its days go into one listing, whatever lies before them."""


@dataclass(frozen=True, slots=True)
class CameraList:
    """Some cameras.

    Attributes:
        sources: in order.
        cut_devices: the devices that have more of them.
        has_more: whether there are more devices, or more cameras than are looked at in all.
    """

    sources: tuple[Source, ...] = ()
    cut_devices: tuple[str, ...] = ()
    has_more: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether there are no others."""
        return not self.cut_devices and not self.has_more


NO_CAMERAS = CameraList()


def limited(cameras: Mapping[str, Sequence[str]], *, has_more: bool = False) -> CameraList:
    """Return as many cameras of each device as there is room for, so that none takes the room of another.

    Args:
        cameras: by device.
        has_more: whether there are devices beside them.
    """
    named = {device: sorted(cameras[device]) for device in sorted(cameras)}
    kept = dict(islice(named.items(), MOST_DEVICES))
    rows = zip_longest(
        *([Source(device, name) for name in names[:MOST_CAMERAS]] for device, names in kept.items())
    )
    all_in_turn = [source for row in rows for source in row if source is not None]
    return CameraList(
        tuple(sorted(all_in_turn[:MOST_SOURCES])),
        tuple(device for device, names in kept.items() if len(names) > MOST_CAMERAS),
        has_more or len(named) > len(kept) or len(all_in_turn) > MOST_SOURCES,
    )


def camera_list_of(sources: Iterable[Source]) -> CameraList:
    """Return as many of some cameras as there is room for; see `limited`."""
    cameras: dict[str, list[str]] = {}
    for source in sources:
        cameras.setdefault(source.device, []).append(source.camera)
    return limited(cameras)


def merged(*camera_lists: CameraList) -> CameraList:
    """Return several as one."""
    together = camera_list_of({source for camera_list in camera_lists for source in camera_list.sources})
    return CameraList(
        together.sources,
        tuple(
            sorted(
                {
                    *together.cut_devices,
                    *(device for camera_list in camera_lists for device in camera_list.cut_devices),
                }
            )
        ),
        together.has_more or any(camera_list.has_more for camera_list in camera_lists),
    )


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days around one.

    Attributes:
        days: those that have faces, oldest first, none of them in the future.
        ahead: the next of those in the future: the clock of a camera was wrong, or its device lies.
    """

    days: tuple[date, ...]
    ahead: tuple[date, ...]

    def before(self, day: date) -> date | None:
        """Return the nearest day before one."""
        return max((each for each in (*self.days, *self.ahead) if each < day), default=None)

    def after(self, day: date) -> date | None:
        """Return the nearest day after one; those in the future are nobody's next but each other's."""
        known = (*self.days, *self.ahead) if self.ahead and day >= self.ahead[0] else self.days
        return min((each for each in known if each > day), default=None)


LAST = "~"
"""Sorts behind everything that may follow in a name."""


class DayIndex:
    """Finds faces of all cameras together.

    Args:
        files: the store.
        lookup: is told what the index says of their visits.
    """

    def __init__(self, files: FileStore, lookup: VisitLookup) -> None:
        self._index = Index(files)
        self._lookup = lookup

    async def faces(self, selection: PageSelection, count: int) -> list[FaceKey] | None:
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

    async def _rows(self, day: date, selection: PageSelection, count: int) -> list[Row]:
        if selection.after is not None:
            return await self._index.earliest(day, f"{selection.after}{LAST}", count)
        return await self._index.latest(day, selection.before or "", count)
