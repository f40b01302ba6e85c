"""The visit, size and detector of faces, read once from their objects and remembered."""

import asyncio
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.listing import LISTINGS_AT_A_TIME
from services.common.storage.objects import NoSuchObject, ObjectStore
from services.common.storage.visits import Part, Picture, part_in

_BOX = re.compile(r"-?\d{1,6},-?\d{1,6},(\d{1,6}),(\d{1,6})", re.ASCII)
_DETECTOR = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
T = TypeVar("T")

MOST_KEPT = 10_000
"""Faces remembered, some 5 MB; beyond it the least recently used are read again."""


class Known(NamedTuple):
    """A face's metadata, as far as they are known.

    Attributes:
        part: its part in a visit; None where it has none.
        side_px: the shorter side of its box in the frame, pixels; None where it is not given.
        is_read: whether it was read from the object, which alone has the size; else it is from the index.
        detector: the detector's name; `""` where it is not given.
    """

    part: Part | None
    side_px: int | None = None
    is_read: bool = True
    detector: str = ""


UNKNOWN = Known(None, is_read=False)


class VisitLookup:
    """Reads faces' metadata without their images, and remembers them: they never change.

    Args:
        objects: the store.
        most: faces to remember.
    """

    def __init__(self, objects: ObjectStore, most: int = MOST_KEPT) -> None:
        self._objects = objects
        self._most = most
        self._kept: OrderedDict[str, Known] = OrderedDict()
        self._turns = asyncio.Semaphore(LISTINGS_AT_A_TIME)

    def __len__(self) -> int:
        return len(self._kept)

    def knows(self, key: FaceKey) -> bool:
        """Say whether a face's visit is known without reading its object."""
        return str(key) in self._kept

    def recall(self, key: FaceKey) -> Part | None:
        """Return a face's part in a visit, or None where it has none or is not known yet."""
        name = str(key)
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name, UNKNOWN).part

    def detectors(self, keys: Iterable[FaceKey]) -> list[str]:
        """Return the detectors of faces that are known, each once, sorted."""
        return sorted({self._kept.get(str(key), UNKNOWN).detector for key in keys} - {""})

    def note(self, key: FaceKey, metadata: Mapping[str, str]) -> Part | None:
        """Remember the metadata of an object that was read; return its part in a visit.

        Metadata without this face's id are ignored: a server lost them, or a proxy answered. The object is
        read again the next time.
        """
        if metadata.get("id") != key.id:
            return None
        known = Known(part_in(metadata), _side_px(metadata), detector=_detector(metadata))
        return self._keep(key, known).part

    def learn(self, row: IndexRow) -> None:
        """Remember what a row of the index has of a face's visit, unless the object was read."""
        if row.known and not self._kept.get(str(row.key), UNKNOWN).is_read:
            self._keep(row.key, Known(row.part, is_read=False))

    def forget(self, is_gone: Callable[[FaceKey, Part | None], bool]) -> None:
        """Forget the faces for which `is_gone` holds."""
        for name, known in list(self._kept.items()):
            key = parse_key(name)
            if key is None or is_gone(key, known.part):
                del self._kept[name]

    async def of(self, key: FaceKey) -> Part | None:
        """Return a face's part in a visit, or None where it has none or was removed.

        Raises:
            StoreUnavailable: the object cannot be read.
        """
        return self.recall(key) if self.knows(key) else (await self._ask(key, is_size_wanted=False)).part

    async def known(self, key: FaceKey) -> Known:
        """Return a face's metadata, its size included; `UNKNOWN` where it was removed.

        Raises:
            StoreUnavailable: the object cannot be read.
        """
        found = self._kept.get(str(key), UNKNOWN)
        return found if found.is_read else await self._ask(key, is_size_wanted=True)

    async def _ask(self, key: FaceKey, *, is_size_wanted: bool) -> Known:
        async with self._turns:
            found = self._kept.get(str(key))
            if found is not None and (found.is_read or not is_size_wanted):
                return found  # another task has read it meanwhile
            try:
                self.note(key, await self._objects.about(str(key)))
            except NoSuchObject:
                return UNKNOWN
        return self._kept.get(str(key), UNKNOWN)

    def _keep(self, key: FaceKey, known: Known) -> Known:
        self._kept[str(key)] = known
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return known

    async def each(self, keys: Sequence[FaceKey]) -> list[Picture]:
        """Return faces with their parts in visits, in the order given.

        Raises:
            StoreUnavailable: one cannot be read; the others are not tried.
        """
        parts = await _together(self.of(key) for key in keys)
        return [Picture(key, part) for key, part in zip(keys, parts, strict=True)]

    async def each_known(self, keys: Sequence[FaceKey]) -> list[Known]:
        """Return faces' metadata, in the order given.

        Raises:
            StoreUnavailable: one cannot be read; the others are not tried.
        """
        found = [self._kept.get(str(key), UNKNOWN) for key in keys]
        if all(known.is_read for known in found):
            return found  # tasks would cost more than the rest of the page
        return await _together(self.known(key) for key in keys)


async def _together(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(question) for question in questions]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [each.result() for each in asked]


def _side_px(metadata: Mapping[str, str]) -> int | None:
    """Return the shorter side of the box `x,y,width,height`."""
    found = _BOX.fullmatch(metadata.get("box", ""))
    return min(int(found[1]), int(found[2])) if found else None


def _detector(metadata: Mapping[str, str]) -> str:
    """Return the detector's name, interned to save memory; it comes from a device."""
    said = metadata.get("detector", "")
    return sys.intern(said) if _DETECTOR.fullmatch(said) else ""
