"""How many faces an hour, for the charts. The one thing here that reads a whole day, hence sparingly."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from services.common.storage.keys import camera_folder
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.topics import Source
from services.gallery import reading

MAX_KEPT = 2_000
"""Days of cameras whose counts are remembered."""
AT_A_TIME = 2
GOOD_FOR = 50
"""A count is good for so many times as long as it took: counting takes a fiftieth of the time at most."""
GOOD_AT_LEAST_S = 15.0


@dataclass(frozen=True, slots=True)
class Count:
    """Faces by hour, and until when the numbers are good (monotonic seconds)."""

    by_hour: list[int]
    good_until_s: float


class Counts:
    """Counts days by the hour, off the way of whoever asks.

    Args:
        objects: the store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, Count] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def within(self, sources: Iterable[Source], day: date, patience_s: float) -> list[int] | None:
        """Return a day's faces by the hour (UTC), of several cameras together.

        Nothing is returned where the counting takes longer than one is ready to wait; it goes on, and
        whoever asks again has the answer. What is a little old is returned as it is, and counted again.
        """
        folders = [camera_folder(source, day.isoformat()) for source in sources]
        tasks = [task for folder in folders if (task := self._refresh(folder)) is not None]
        if tasks and any(folder not in self._kept for folder in folders):
            await asyncio.wait(tasks, timeout=patience_s)
        counts = [self._kept[folder].by_hour for folder in folders if folder in self._kept]
        if len(counts) < len(folders):
            return None
        return [sum(hour) for hour in zip(*counts, strict=True)] if counts else [0] * 24

    async def close(self) -> None:
        """Stop counting."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refresh(self, folder: str) -> asyncio.Task[None] | None:
        kept = self._kept.get(folder)
        if kept is not None and time.monotonic() < kept.good_until_s:
            return None
        if folder not in self._under_way:
            task = asyncio.create_task(self._count(folder), name="gallery.count")
            self._under_way[folder] = task
            task.add_done_callback(lambda _task: self._under_way.pop(folder, None))
        return self._under_way[folder]

    async def _count(self, folder: str) -> None:
        async with self._turns:
            began_s = time.monotonic()
            try:
                by_hour = await reading.hours(self._objects, folder)
            except StoreUnavailable:
                return  # whoever asks for the faces themselves hears of it
            took_s = time.monotonic() - began_s
        self._kept[folder] = Count(by_hour, began_s + took_s + max(GOOD_AT_LEAST_S, GOOD_FOR * took_s))
        self._kept.move_to_end(folder)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
