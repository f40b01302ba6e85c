"""New faces from the store's receipts: a receipt names ids, and the store has their cameras."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from itertools import chain

from services.common.errors import Refused
from services.common.runtime.metrics import Drops
from services.common.storage.keys import FaceKey, camera_folder, id_time
from services.common.storage.listing import last_day
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.gallery import reading
from services.gallery.album import Album, utc_today
from services.gallery.metrics import ANNOUNCED, DROPPED
from services.gallery.visits import VisitReader

MAX_ANNOUNCED = 24
"""Faces of one device announced at a time, the newest; more are dropped and counted."""

MAX_NOTED = 10_000
"""Ids that wait to be looked up while the store is slow; more are dropped and counted."""
MAX_NOTED_OF_DEVICE = 1_000
"""Of one device, so that a busy or lying one takes no other's room."""
MAX_DAYS = 3
"""Days of one device looked up in one round, the newest: live faces are of today."""
RESTS = 50
"""A look-up is followed by a pause of so many times its duration, so that large folders cost little."""

_drops = Drops(DROPPED, "gallery.news_dropped")


class Arrivals:
    """Collects ids of stored faces, looks up their cameras, and announces the faces.

    Args:
        objects: the store.
        announce: is called with the faces of one device, oldest first.
        today: returns the day, UTC.
        visits: reads the visits of faces before they are announced; None: they are not read.
    """

    def __init__(
        self,
        objects: ObjectStore,
        announce: Callable[[list[FaceKey]], None],
        today: Callable[[], date] = utc_today,
        visits: VisitReader | None = None,
    ) -> None:
        self._objects = objects
        self._visits = visits
        self._album = Album(objects)
        self._announce = announce
        self._today = today
        self._ids: defaultdict[str, set[str]] = defaultdict(set)
        self._noted = 0
        self._wake = asyncio.Event()

    def note(self, device: str, ids: Iterable[str]) -> None:
        """Take the ids of a receipt."""
        last = last_day(self._today())
        for face_id in ids:
            try:
                self._keep(device, face_id, last)
            except Refused as refusal:
                _drops.count(refusal.reason, device=device)
        self._wake.set()

    def _keep(self, device: str, face_id: str, last: date) -> None:
        if id_time(face_id).date() > last:
            raise Refused("in_future")
        of_device = len(self._ids[device]) if device in self._ids else 0
        if self._noted >= MAX_NOTED or of_device >= MAX_NOTED_OF_DEVICE:
            raise Refused("slow_store")
        self._noted += face_id not in self._ids[device]
        self._ids[device].add(face_id)

    async def run(self, every_s: float) -> None:
        """Announce what is noted, at most so often, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            noted, self._noted = dict(self._ids), 0
            self._ids.clear()
            began_s = time.monotonic()
            found = [await self._look_up_days(device, ids) for device, ids in noted.items()]
            took_s = time.monotonic() - began_s
            for faces in chain.from_iterable(found):
                await self._tell(faces)
            await asyncio.sleep(max(every_s, RESTS * took_s))

    async def _tell(self, faces: list[FaceKey]) -> None:
        if self._visits is not None:
            await self._visits.group_by_visit(faces)
        ANNOUNCED.inc(len(faces))
        self._announce(faces)

    async def _look_up_days(self, device: str, ids: set[str]) -> list[list[FaceKey]]:
        """Return the faces of each day, as far as they are found."""
        by_day: defaultdict[date, set[str]] = defaultdict(set)
        for face_id in ids:
            by_day[id_time(face_id).date()].add(face_id)
        newest_first = sorted(by_day, reverse=True)
        for day in newest_first[MAX_DAYS:]:
            for _ in by_day[day]:
                _drops.count("too_many_days", device=device)
        found = [await self._look_up(device, day, by_day[day]) for day in newest_first[:MAX_DAYS]]
        return [faces for faces in found if faces]

    async def _look_up(self, device: str, day: date, ids: set[str]) -> list[FaceKey]:
        newest = sorted(ids)[-MAX_ANNOUNCED:]
        for _ in range(len(ids) - len(newest)):
            _drops.count("too_many_at_once", device=device)
        try:
            return await self._find(device, day, newest)
        except StoreUnavailable as error:
            _drops.count(error.reason, device=device)
            return []

    async def _find(self, device: str, day: date, ids: list[str]) -> list[FaceKey]:
        """Return those of `ids` (in order) that the device's cameras have."""
        wanted = set(ids)
        camera_list = await self._album.camera_list(day, device)
        found = [
            key
            for source in camera_list.sources
            async for key in reading.between(
                self._objects, camera_folder(source, day.isoformat()), ids[0], ids[-1]
            )
            if key.id in wanted
        ]
        if not camera_list.is_complete:
            for _ in range(len(wanted) - len(found)):
                _drops.count("too_many_cameras", device=device)
        return sorted(found, key=lambda key: key.id)
