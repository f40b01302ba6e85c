"""Faces by the hour and by the quarter of one, for charts. Counting reads a whole day, so it is rationed."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from services.common.storage.keys import camera_folder, day_folder
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.wire.topics import Source
from services.gallery import reading

MAX_KEPT = 2_000
"""Days of cameras whose counts are remembered."""
AT_A_TIME = 2
GOOD_FOR = 50
"""A count is valid for so many times its duration, so that counting takes a fiftieth of the time at most."""
GOOD_AT_LEAST_S = 15.0

CountFaces = Callable[[], Awaitable[list[int]]]
"""Counts the faces of a day, by the hour or by the quarter of one."""


@dataclass(frozen=True, slots=True)
class Count:
    """Faces by hour or quarter, and until when the numbers are valid (monotonic seconds)."""

    counts: list[int]
    good_until_s: float


class Counts:
    """Counts the faces of days in the background, and remembers the numbers.

    Args:
        objects: the store.
        of_index: returns the faces of all cameras in each hour of a day from the index; None: no index.
    """

    def __init__(
        self, objects: ObjectStore, of_index: Callable[[date], Awaitable[list[int]]] | None = None
    ) -> None:
        self._objects = objects
        self._of_index = of_index
        self._kept: OrderedDict[str, Count] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def within(self, sources: Iterable[Source], day: date, patience_s: float) -> list[int] | None:
        """Return a day's faces by the hour (UTC), of several cameras together.

        None is returned where counting takes longer than `patience_s`; it goes on, and a later call has the
        numbers. Numbers that are out of date are returned as they are, and counted again.
        """
        counts = await self._sum(self._ways(sources, day), patience_s)
        return None if counts is None else _by_hour(counts)

    async def by_quarter(
        self, sources: Sequence[Source], day: date, patience_s: float
    ) -> dict[Source, list[int] | None]:
        """Return each camera's faces by the quarter of an hour (UTC), or None where that takes longer."""
        ways = self._ways(sources, day)
        await self._sum(ways, patience_s)
        found = (self._kept.get(name) for name in ways)
        return dict(zip(sources, (each.counts if each else None for each in found), strict=True))

    def _ways(self, sources: Iterable[Source], day: date) -> dict[str, CountFaces]:
        folders = [camera_folder(source, day.isoformat()) for source in sources]
        return {folder: partial(reading.quarters, self._objects, folder) for folder in folders}

    async def of_index_day(self, day: date, patience_s: float) -> list[int] | None:
        """Return a day's faces by the hour (UTC) of all cameras from the index; see `within`."""
        if self._of_index is None:
            return None
        return await self._sum({day_folder(day.isoformat()): partial(self._of_index, day)}, patience_s)

    async def _sum(self, ways: Mapping[str, CountFaces], patience_s: float) -> list[int] | None:
        tasks = [task for name, way in ways.items() if (task := self._refresh(name, way)) is not None]
        if tasks and any(name not in self._kept for name in ways):
            await asyncio.wait(tasks, timeout=patience_s)
        counts = [self._kept[name].counts for name in ways if name in self._kept]
        if len(counts) < len(ways):
            return None
        return [sum(each) for each in zip(*counts, strict=True)] if counts else [0] * reading.QUARTERS

    def forget(self) -> None:
        """Drop all numbers, because faces were erased."""
        self._kept.clear()

    async def close(self) -> None:
        """Cancel all counting and wait for its end."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refresh(self, name: str, way: CountFaces) -> asyncio.Task[None] | None:
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept.good_until_s:
            return None
        if name not in self._under_way:
            task = asyncio.create_task(self._count(name, way), name="gallery.count")
            self._under_way[name] = task
            task.add_done_callback(lambda _task: self._under_way.pop(name, None))
        return self._under_way[name]

    async def _count(self, name: str, way: CountFaces) -> None:
        async with self._turns:
            began_s = time.monotonic()
            try:
                counts = await way()
            except StoreUnavailable:
                return  # the caller meets it when it lists the faces
            took_s = time.monotonic() - began_s
        self._kept[name] = Count(counts, began_s + took_s + max(GOOD_AT_LEAST_S, GOOD_FOR * took_s))
        self._kept.move_to_end(name)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


def _by_hour(quarters: list[int]) -> list[int]:
    return [sum(quarters[start : start + 4]) for start in range(0, len(quarters), 4)]
