"""Removes faces that are older than they are kept: found by the day in their key, judged by their age."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from services.common.retention import Retention, kept_since
from services.common.storage.index.rows import ROOT as INDEX
from services.common.storage.keys import FaceKey, day_in, face_in
from services.common.storage.listing import last_day
from services.common.storage.objects import Copy, NoSuchObject, ObjectStore
from services.common.wire import times
from services.common.wire.cloudevents import is_time_known

_HOUR = re.compile(r"/hour=([01]\d|2[0-3])/", re.ASCII)

AT_ONCE = 500
"""How many copies are removed at a time."""


@dataclass(slots=True)
class Swept:
    """The outcome of a sweep.

    Attributes:
        removed: copies that are gone, by the day of their capture; a face in a folder has two, its image and
            its `.json`, and one in a bucket has one for each version.
        refused: copies that the store refuses to remove, by reason.
        foreign: objects among them that belong to no face; they are left alone.
    """

    removed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    foreign: int = 0


async def sweep(
    objects: ObjectStore,
    retention: Retention,
    now: datetime,
    *,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Swept:
    """Remove every copy of every face that is older than faces are kept.

    It may run twice, concurrently, or be cut short: the next sweep removes what is left.

    Args:
        objects: the bucket or folder.
        retention: for how long faces are kept.
        now: the time, UTC.
        is_wanted: is asked after every few hundred copies whether to go on.

    Raises:
        StoreUnavailable: the store cannot be listed, or nothing removed, just now.
    """
    swept = Swept()
    some: list[Copy] = []
    async for copy in overdue(objects, retention, now, swept):
        some.append(copy)
        if len(some) >= AT_ONCE:
            await _remove(objects, some, swept)
            some = []
            if not is_wanted():
                return swept
    await _remove(objects, some, swept)
    return swept


async def overdue(
    objects: ObjectStore, retention: Retention, now: datetime, swept: Swept
) -> AsyncIterator[Copy]:
    """Yield the copies to remove.

    Only days that may hold some are listed: those old enough, and those in the future, which come from a
    wrong clock.

    Args:
        objects: the bucket or folder.
        retention: for how long faces are kept.
        now: the time, UTC.
        swept: its `foreign` counts objects that belong to no face.

    Raises:
        StoreUnavailable: the store cannot be listed just now.
    """
    limit = retention.limit(now)
    if limit is None:
        return
    for folder in await objects.folders(""):
        day = day_in(folder)
        if day is None or limit.date() < day <= last_day(now.date()):
            continue
        async for copy in objects.copies(folder):
            if (key := face_in(copy.key)) is None:
                swept.foreign += 1
            elif await _is_over(objects, copy, key, retention, now):
                yield copy
    async for copy in _overdue_index(objects, limit):
        yield copy


async def _overdue_index(objects: ObjectStore, limit: datetime) -> AsyncIterator[Copy]:
    """Yield the index files of hours that are old enough: their rows are of faces that are removed."""
    for folder in await objects.folders(INDEX):
        day = day_in(folder.removeprefix(f"{INDEX}/"))
        if day is None or day > limit.date():
            continue
        async for copy in objects.copies(folder):
            if (ends := _end_of_hour(day, copy.key)) is not None and ends <= limit:
                yield copy


def _end_of_hour(day: date, key: str) -> datetime | None:
    found = _HOUR.search(key)
    return times.midnight(day) + timedelta(hours=int(found[1]) + 1) if found else None


async def _is_over(
    objects: ObjectStore, copy: Copy, key: FaceKey, retention: Retention, now: datetime
) -> bool:
    if retention.is_over(copy.came, now):
        return True
    if not retention.is_over(key.time, now):
        return False
    # It came late, or its camera did not know the time. Few did, so the metadata of each may be read.
    since = kept_since(key.time, copy.came, is_time_known=await _is_time_known(objects, key))
    return retention.is_over(since, now)


async def _is_time_known(objects: ObjectStore, key: FaceKey) -> bool:
    try:
        about = await objects.about(str(key))
    except NoSuchObject:
        return True  # a remnant without metadata says nothing to the contrary
    return is_time_known(about)


async def _remove(objects: ObjectStore, copies: list[Copy], swept: Swept) -> None:
    refused = await objects.remove_copies(copies) if copies else {}
    swept.refused.update(refused.values())
    gone = (copy.key.removeprefix(f"{INDEX}/") for copy in copies if copy not in refused)
    swept.removed.update(key.partition("/")[0] for key in gone)
