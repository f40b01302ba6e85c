"""What is older than faces are kept is found by its day, judged by its age, and removed."""

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
"""Copies that are removed before the next are looked for."""


@dataclass(slots=True)
class Swept:
    """What came of a sweep.

    Attributes:
        removed: copies that are gone, by the day of their capture; a face in a folder has two, its image and
            its `.json`, and one in a bucket as many as there are versions.
        refused: copies that the store does not let go of, by reason.
        foreign: what lies among them and is no face's; it is left alone.
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

    It may be done twice, or by two at a time, or be cut short: what is left goes with the next.

    Args:
        objects: the store.
        retention: for how long faces are kept.
        now: the time, UTC.
        is_wanted: is asked between a few hundred copies whether to go on.

    Raises:
        StoreUnavailable: it cannot be looked at, or nothing of it be removed, just now.
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
    """Yield the copies that are to go.

    Days are looked at that may hold any: those that are over, and those that cannot have been yet, which only
    a wrong clock has.

    Args:
        objects: the store.
        retention: for how long faces are kept.
        now: the time, UTC.
        swept: is told of what is no face's.
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
    """Yield what the index has of hours that are over: its rows are of faces that go."""
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
    # It came late, or its camera did not know the time: few do, so each may be asked.
    since = kept_since(key.time, copy.came, is_time_known=await _is_time_known(objects, key))
    return retention.is_over(since, now)


async def _is_time_known(objects: ObjectStore, key: FaceKey) -> bool:
    try:
        about = await objects.about(str(key))
    except NoSuchObject:
        return True  # what is left of it tells nothing else
    return is_time_known(about)


async def _remove(objects: ObjectStore, copies: list[Copy], swept: Swept) -> None:
    refused = await objects.remove_copies(copies) if copies else {}
    swept.refused.update(refused.values())
    gone = (copy.key.removeprefix(f"{INDEX}/") for copy in copies if copy not in refused)
    swept.removed.update(key.partition("/")[0] for key in gone)
