"""Which days and cameras pages list, within bounds: names come from devices, which may invent them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice, zip_longest

from services.common.storage.index.reading import Index
from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey
from services.common.storage.objects import FileStore, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.topics import Source
from services.gallery.reading import LAST
from services.gallery.selection import PageSelection

MOST_DEVICES = 128
MOST_CAMERAS = 64
"""Cameras of one device, the first by name; another one is shown where it is named."""
MOST_SOURCES = 256
"""Cameras of all devices together."""
MOST_DAYS = 1_000
"""Names of one listing: one answer of S3."""
CALENDAR_SPAN = timedelta(days=900)
"""Days before the middle of a calendar: so many fit into one listing."""


@dataclass(frozen=True, slots=True)
class CameraList:
    """The cameras that a page lists.

    Attributes:
        sources: in order.
        cut_devices: devices with more cameras than `MOST_CAMERAS`.
        has_more: whether there are more devices, or more cameras than `MOST_SOURCES`.
    """

    sources: tuple[Source, ...] = ()
    cut_devices: tuple[str, ...] = ()
    has_more: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether there are no other cameras."""
        return not self.cut_devices and not self.has_more


NO_CAMERAS = CameraList()


def limited(cameras: Mapping[str, Sequence[str]], *, has_more: bool = False) -> CameraList:
    """Return the cameras within the bounds; each device has its share, so that none takes another's.

    Args:
        cameras: names of cameras, by device.
        has_more: whether there are other devices.
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
    """Return some cameras within the bounds; see `limited`."""
    cameras: dict[str, list[str]] = {}
    for source in sources:
        cameras.setdefault(source.device, []).append(source.camera)
    return limited(cameras)


def merged(*camera_lists: CameraList) -> CameraList:
    """Return several lists as one, within the bounds."""
    together = camera_list_of({source for each in camera_lists for source in each.sources})
    cut_devices = {device for each in (together, *camera_lists) for device in each.cut_devices}
    return CameraList(
        together.sources,
        tuple(sorted(cut_devices)),
        any(each.has_more for each in (together, *camera_lists)),
    )


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days with faces around a day.

    Attributes:
        days: oldest first, none in the future.
        ahead: days in the future, the next first: a camera's clock was wrong, or its device lies.
    """

    days: tuple[date, ...]
    ahead: tuple[date, ...]

    def before(self, day: date) -> date | None:
        """Return the nearest day before a day, or None."""
        return max((each for each in (*self.days, *self.ahead) if each < day), default=None)

    def after(self, day: date) -> date | None:
        """Return the nearest day after a day, or None; one in the future only after another in the future."""
        known = (*self.days, *self.ahead) if self.ahead and day >= self.ahead[0] else self.days
        return min((each for each in known if each > day), default=None)


class DayIndex:
    """Finds the faces of all cameras together, from the index.

    Args:
        files: the store.
        lookup: is given the visits that the index has.
    """

    def __init__(self, files: FileStore, lookup: VisitLookup) -> None:
        self._index = Index(files)
        self._lookup = lookup

    async def faces(self, selection: PageSelection, count: int) -> list[FaceKey] | None:
        """Return the faces of a day next to where a page begins, the nearest first.

        None is returned where the index has none there, or cannot be read.

        Args:
            selection: of all cameras; its day must be set.
            count: faces, at most.
        """
        assert selection.day is not None
        try:
            rows = await self._rows(selection.day, selection, count)
        except StoreUnavailable:
            return None  # the listing that follows reports it
        for row in rows:
            self._lookup.learn(row)
        return [row.key for row in rows] or None

    async def counts(self, day: date) -> list[int]:
        """Return the number of faces in each hour of a day, UTC, as the index has them: 24 numbers."""
        return await self._index.counts(day)

    async def _rows(self, day: date, selection: PageSelection, count: int) -> list[IndexRow]:
        if selection.after is not None:
            return await self._index.earliest(day, f"{selection.after}{LAST}", count)
        return await self._index.latest(day, selection.before or "", count)
