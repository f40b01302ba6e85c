import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from services.commands.stores import to_read
from services.common.errors import SetupError
from services.common.runtime.arguments import whole
from services.common.storage.backends import open_store
from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.listing import StoredFace, days_after, last_day, newest_first
from services.common.storage.locations import DEFAULT_STORE
from services.common.storage.objects import StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.common.storage.visit_lookup import VisitLookup
from services.common.storage.visits import Group, Picture

if TYPE_CHECKING:
    from services.common.wire.topics import Source

MOST_LIMIT = 999_999_999
MOST_AHEAD = 1_000
"""Faces after a visit's newest picture in which its other pictures are looked for."""
AT_ONCE = 64
"""Faces read ahead, so that their visits are read together."""

Lines = Callable[[VisitLookup, AsyncIterator[StoredFace]], AsyncIterator[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry faces`."""
    parser.add_argument(
        "--store",
        metavar="URL_OR_PATH",
        help=f"default: FACEFERRY_STORE_URL, else {DEFAULT_STORE}, where `up` puts them",
    )
    parser.add_argument(
        "--limit", type=whole(0, MOST_LIMIT), default=20, metavar="N", help="at most; 0: all; default: 20"
    )
    parser.add_argument(
        "--by-visit",
        action="store_true",
        help="a line a visit: from when to when, the camera, how many pictures, the best one's quality and "
        "key; to know that takes a request for each face that the index does not tell of",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--future",
        action="store_true",
        help="those of days after tomorrow, too: the clock of a camera was wrong, or its device lies",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List stored faces, or visits, newest first."""
    last = None if options.future else last_day(datetime.now(UTC).date())
    lines = _visits if options.by_visit else _faces
    asyncio.run(_list(to_read(options.store), options.limit, last, partial(lines, is_json=options.json)))
    return 0


async def _list(settings: ObjectStoreSettings, limit: int, last: date | None, lines: Lines) -> None:
    try:
        async with open_store(settings) as objects:
            numbers = count(1)
            lookup = VisitLookup(objects)
            async for line in lines(lookup, newest_first(objects, last, lookup.learn)):
                print(line)
                if next(numbers) == limit:
                    break
            if next(numbers) == 1:
                print(f"there are no faces in {settings.store_url} yet", file=sys.stderr)
            if last is not None and (days := await days_after(objects, last)):
                print(f"{days} days in the future are left out: --future shows them", file=sys.stderr)
    except StoreUnavailable as error:
        raise SetupError(f"{settings.store_url} cannot be read: {error}") from error


async def _faces(
    _lookup: VisitLookup, faces: AsyncIterator[StoredFace], *, is_json: bool
) -> AsyncIterator[str]:
    async for face in faces:
        yield _as_json(face) if is_json else _as_line(face)


async def _visits(
    lookup: VisitLookup, faces: AsyncIterator[StoredFace], *, is_json: bool
) -> AsyncIterator[str]:
    keys = (key async for face in faces if (key := parse_key(face.key)) is not None)
    async for group in by_visit(pictures(keys, lookup)):
        yield _visit_as_json(group) if is_json else _visit_as_line(group)


async def pictures(faces: AsyncIterator[FaceKey], lookup: VisitLookup) -> AsyncIterator[Picture]:
    """Yield faces with their parts in visits, in the order given."""
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
    """Pictures of a visit, newest first, and the number of the newest among all faces."""

    number: int
    pictures: list[Picture] = field(default_factory=list)

    def is_over(self, time: datetime, number: int, most_ahead: int) -> bool:
        """Say whether the visit has no more pictures, at a face of this time and number."""
        part = self.pictures[0].part
        return part is None or time < part.began or number - self.number >= most_ahead


async def by_visit(faces: AsyncIterator[Picture], most_ahead: int = MOST_AHEAD) -> AsyncIterator[Group]:
    """Yield visits, and single faces of none, in the order of their newest pictures, newest first.

    A visit ends when the faces are older than its beginning, or after `most_ahead` faces. One that has
    pictures after that is yielded again with these.

    Args:
        faces: newest first.
        most_ahead: faces in memory, at most.
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


def _as_line(face: StoredFace) -> str:
    return f"{face.time:%Y-%m-%d %H:%M:%S.%f} {face.device}/{face.camera} {face.bytes:>8} {face.key}"


def _as_json(face: StoredFace) -> str:
    return json.dumps(
        {
            "id": face.id,
            "time": face.time.isoformat(),
            "device": face.device,
            "camera": face.camera,
            "bytes": face.bytes,
            "key": face.key,
        }
    )


def _visit_as_line(group: Group) -> str:
    quality = "-" if group.quality is None else f"{group.quality:.3f}"
    return (
        f"{group.began:%Y-%m-%d %H:%M:%S.%f} {group.last:%Y-%m-%d %H:%M:%S.%f} {group.source} "
        f"{len(group.pictures):>4} {quality:>5} {group.best.key}"
    )


def _visit_as_json(group: Group) -> str:
    return json.dumps(
        {
            "visit": group.visit,
            "began": group.began.isoformat(),
            "last": group.last.isoformat(),
            "device": group.source.device,
            "camera": group.source.camera,
            "pictures": len(group.pictures),
            "quality": group.quality,
            "best": str(group.best.key),
        }
    )
