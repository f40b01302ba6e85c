"""Which days and cameras are looked at. Their names come from devices, and any device may invent some."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice, zip_longest

from services.common.storage.index.reading import Index
from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey
from services.common.storage.objects import Files, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.topics import Source
from services.gallery.selection import Selection

MOST_DEVICES = 128
MOST_CAMERAS = 64
"""Cameras of one device, the first by name; whoever names another sees that."""
MOST_SOURCES = 256
"""Cameras of all devices together."""
MOST_DAYS = 1_000
"""Names of one listing: one answer of S3."""
A_WHILE = timedelta(days=900)
"""Its days go into one listing, whatever lies before them."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Some cameras.

    Attributes:
        sources: in order.
        crowded: the devices that have more of them.
        has_more: whether there are more devices, or more cameras than are looked at in all.
    """

    sources: tuple[Source, ...] = ()
    crowded: tuple[str, ...] = ()
    has_more: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether there are no others."""
        return not self.crowded and not self.has_more


NOBODY = Roll()


def call_roll(cameras: Mapping[str, Sequence[str]], *, has_more: bool = False) -> Roll:
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
    return Roll(
        tuple(sorted(all_in_turn[:MOST_SOURCES])),
        tuple(device for device, names in kept.items() if len(names) > MOST_CAMERAS),
        has_more or len(named) > len(kept) or len(all_in_turn) > MOST_SOURCES,
    )


def roll_of(sources: Iterable[Source]) -> Roll:
    """Return as many of some cameras as there is room for; see `call_roll`."""
    cameras: dict[str, list[str]] = {}
    for source in sources:
        cameras.setdefault(source.device, []).append(source.camera)
    return call_roll(cameras)


def joined(*rolls: Roll) -> Roll:
    """Return several as one."""
    together = roll_of({source for roll in rolls for source in roll.sources})
    return Roll(
        together.sources,
        tuple(sorted({*together.crowded, *(device for roll in rolls for device in roll.crowded)})),
        together.has_more or any(roll.has_more for roll in rolls),
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
