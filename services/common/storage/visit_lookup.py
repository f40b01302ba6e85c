"""To which visit a face belongs. A key does not tell: that is read from the object, once."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey
from services.common.storage.listing import LISTINGS_AT_A_TIME
from services.common.storage.objects import NoSuchObject, ObjectStore
from services.common.storage.visits import Part, Picture, part_in

MOST_KEPT = 10_000
"""Faces that are remembered, some 5 MB; of more, those that were asked for longest ago are read again."""


class VisitLookup:
    """Reads what faces say of their visits, without their images, and remembers it: it never changes.

    Args:
        objects: the store.
        most: faces that are remembered.
    """

    def __init__(self, objects: ObjectStore, most: int = MOST_KEPT) -> None:
        self._objects = objects
        self._most = most
        self._kept: OrderedDict[str, Part | None] = OrderedDict()
        self._turns = asyncio.Semaphore(LISTINGS_AT_A_TIME)

    def __len__(self) -> int:
        return len(self._kept)

    def knows(self, key: FaceKey) -> bool:
        """Say whether nothing need be read for a face."""
        return str(key) in self._kept

    def recall(self, key: FaceKey) -> Part | None:
        """Return a face's part in a visit, as far as that is known by now."""
        name = str(key)
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name)

    def note(self, key: FaceKey, metadata: Mapping[str, str]) -> Part | None:
        """Take what is known about an object that was read, and return its part in a visit.

        What does not name this face is not its metadata: a server that loses it, or a proxy's page. It says
        nothing, and may say more the next time.
        """
        if metadata.get("id") != key.id:
            return None
        return self._keep(key, part_in(metadata))

    def learn(self, row: Row) -> None:
        """Take what the index says of a face, if it says anything of its visit."""
        if row.known:
            self._keep(row.key, row.part)

    async def of(self, key: FaceKey) -> Part | None:
        """Return a face's part in a visit; nothing where it has none, or is not there any more.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        if self.knows(key):
            return self.recall(key)
        async with self._turns:
            if self.knows(key):  # somebody else has asked meanwhile
                return self.recall(key)
            try:
                return self.note(key, await self._objects.about(str(key)))
            except NoSuchObject:
                return None

    def _keep(self, key: FaceKey, part: Part | None) -> Part | None:
        self._kept[str(key)] = part
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return part

    async def each(self, keys: Sequence[FaceKey]) -> list[Picture]:
        """Return faces with their parts, in their order.

        Raises:
            StoreUnavailable: one of them cannot be read; the rest is left.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = [tasks.create_task(self.of(key)) for key in keys]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [Picture(key, part.result()) for key, part in zip(keys, parts, strict=True)]
