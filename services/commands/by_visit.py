"""The faces of a store by visit, as they are listed: newest first, and without an end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from services.common.storage.keys import FaceKey
from services.common.storage.visit_lookup import VisitLookup
from services.common.storage.visits import Group, Picture
from services.common.topics import Source

MOST_AHEAD = 1_000
"""Faces from a visit's newest picture back among which its others are looked for."""
AT_ONCE = 64
"""Faces that are read ahead, so that their visits are asked for together."""


async def pictures(faces: AsyncIterator[FaceKey], lookup: VisitLookup) -> AsyncIterator[Picture]:
    """Yield faces with their parts in visits, in their order."""
    batch: list[FaceKey] = []
    async for face in faces:
        batch.append(face)
        if len(batch) == AT_ONCE:
            for picture in await lookup.each(batch):
                yield picture
            batch = []
    for picture in await lookup.each(batch):
        yield picture


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Pictures of a visit, newest first, and which face of all the newest was."""

    number: int
    pictures: list[Picture] = field(default_factory=list)

    def is_over(self, time: datetime, number: int, most_ahead: int) -> bool:
        """Say whether no picture is waited for at a face of that time, which is that of all."""
        part = self.pictures[0].part
        return part is None or time < part.began or number - self.number >= most_ahead


async def by_visit(faces: AsyncIterator[Picture], most_ahead: int = MOST_AHEAD) -> AsyncIterator[Group]:
    """Yield visits, and single faces of none, by their newest pictures, newest first.

    A visit is over when the faces are older than its beginning, or so many have come since its newest. One
    that has pictures behind them is yielded again with those.

    Args:
        faces: newest first.
        most_ahead: so many are held in memory at most.
    """
    waiting: dict[tuple[Source, str], _Waiting] = {}
    number = 0
    async for picture in faces:
        number += 1
        while waiting:
            name, visit = next(iter(waiting.items()))
            if not visit.is_over(picture.key.time, number, most_ahead):
                break
            del waiting[name]
            yield Group.of(visit.pictures)
        waiting.setdefault(picture.name, _Waiting(number)).pictures.append(picture)
    for visit in waiting.values():
        yield Group.of(visit.pictures)
