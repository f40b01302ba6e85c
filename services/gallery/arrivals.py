"""From receipts to faces: a receipt names ids, and the store knows whose they are."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date

from services.common.drops import Drops
from services.common.errors import Refused
from services.common.storage.keys import FaceKey, camera_folder, id_time
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.gallery import reading
from services.gallery.album import Album
from services.gallery.metrics import ANNOUNCED, DROPPED

MAX_ANNOUNCED = 24
"""Faces of a device that pages are told of at a time, the newest: more could not be looked at."""

MAX_NOTED = 10_000
"""Ids that wait to be looked up, while the store is slow."""
RESTS = 50
"""A look-up is followed by a rest of so many times as long as it took: a large folder costs little so."""

_drops = Drops(DROPPED, "gallery.news_dropped")


class Arrivals:
    """Gathers the ids of stored faces for a moment, looks up their cameras, and announces them.

    Args:
        objects: the store.
        announce: takes the faces of one device, oldest first.
    """

    def __init__(self, objects: ObjectStore, announce: Callable[[list[FaceKey]], None]) -> None:
        self._objects = objects
        self._album = Album(objects)
        self._announce = announce
        self._ids: defaultdict[tuple[str, date], set[str]] = defaultdict(set)
        self._noted = 0
        self._wake = asyncio.Event()

    def note(self, device: str, ids: Iterable[str]) -> None:
        """Take the ids of a receipt."""
        for face_id in ids:
            if self._noted >= MAX_NOTED:
                _drops.count("slow_store", device=device)
                continue
            try:
                self._ids[device, id_time(face_id).date()].add(face_id)
                self._noted += 1
            except Refused as refusal:
                _drops.count(refusal.reason)
        self._wake.set()

    async def run(self, every_s: float) -> None:
        """Announce what is noted, at most so often, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            noted, self._noted = dict(self._ids), 0
            self._ids.clear()
            began_s = time.monotonic()
            for (device, day), ids in noted.items():
                await self._look_up(device, day, ids)
            await asyncio.sleep(max(every_s, RESTS * (time.monotonic() - began_s)))

    async def _look_up(self, device: str, day: date, ids: set[str]) -> None:
        newest = sorted(ids)[-MAX_ANNOUNCED:]
        for _ in range(len(ids) - len(newest)):
            _drops.count("too_many_at_once", device=device)
        try:
            found = await self._find(device, day, newest)
        except StoreUnavailable as error:
            _drops.count(error.reason, device=device)
            return
        if found:
            ANNOUNCED.inc(len(found))
            self._announce(found)

    async def _find(self, device: str, day: date, ids: list[str]) -> list[FaceKey]:
        """Return those of `ids` (in order) that the device's cameras have."""
        wanted = set(ids)
        found = [
            key
            for source in await self._album.sources(day, device)
            async for key in reading.between(
                self._objects, camera_folder(source, day.isoformat()), ids[0], ids[-1]
            )
            if key.id in wanted
        ]
        return sorted(found, key=lambda key: key.id)
