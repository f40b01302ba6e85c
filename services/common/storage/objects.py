"""The interface to whatever keeps the objects: a bucket, a folder."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.common.errors import FaceferryError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with what is known about it.

    Attributes:
        key: its name under the store's URL.
        body: its content.
        content_type: of the body.
        metadata: names in lower-case letters and digits, values in printable ASCII without runs of spaces.
    """

    key: str
    body: bytes
    content_type: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing: its key and size."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One of all that a store holds under a key: a file, a version of an object, or the mark of a deletion.

    Attributes:
        key: the object's; of what is known about one in a folder, that of its `.json`.
        came: when it was written, UTC.
        version: which one, where a bucket keeps several; else nothing.
    """

    key: str
    came: datetime
    version: str | None = None


class StoreUnavailable(FaceferryError):
    """The store cannot be used just now; it may help to try again.

    Args:
        reason: a short constant such as `forbidden`; a metric label.
        detail: what exactly went wrong, for a log line; no secrets.
        retry_after_s: seconds for which the store asked to be left alone, if it did.
    """

    def __init__(self, reason: str, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class NoSuchObject(FaceferryError):
    """There is no object of this key."""


class ObjectStore(Protocol):
    """Keeps objects. A key always means the same content, so whoever comes second has nothing to do.

    Every method raises `StoreUnavailable` where trying again may help.

    Attributes:
        check_every_s: how often a check is worth what it costs while nothing else is written, in seconds.
    """

    check_every_s: float

    async def verify(self) -> None:
        """Write a probe and read it back, to learn what can be learned before the first face comes.

        Raises:
            SetupError: it can never work as it is set up.
        """

    async def check(self, room_bytes: int) -> None:
        """Return if objects can be written just now: by writing, for nothing else tells.

        Args:
            room_bytes: so much must fit in; ignored where room has no end.
        """

    async def put(self, item: StoredObject) -> bool:
        """Make an object durable; return whether it is known to be new.

        When this returns, neither a crash nor a power cut on the store's side loses the object.
        """

    async def get(self, key: str) -> StoredObject:
        """Return an object.

        Raises:
            NoSuchObject: there is none.
        """

    async def about(self, key: str) -> Mapping[str, str]:
        """Return an object's metadata; its body is not read.

        Raises:
            NoSuchObject: there is none.
        """

    def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        """Yield what lies under a folder (no `/` at its end; `""` for everything), in no certain order."""

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        """Return the first of what lies directly within a folder, in the order of the names.

        Args:
            folder: one that holds objects and no folders.
            count: at most so many; fewer are returned only where there are no more.
            after: only names greater than this; `""` for no bound.
            before: only names less than this; `""` for no bound.
        """

    def reverse_entries(
        self, folder: str, *, before: str = "", at_once: int = 64
    ) -> AsyncIterator[ListedObject]:
        """Yield what lies directly within a folder, the last name first.

        Args:
            folder: one that holds objects and no folders.
            before: only names less than this; `""` for no bound.
            at_once: how many are likely to be taken. What it costs grows with how many are, not with how many
                there are, if the store can list from a name on.
        """

    def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        """Yield all names directly within a folder, some at a time, in no certain order."""

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly within a folder, in order.

        Args:
            folder: `""` for the root.
            after: only names greater than this; `""` for no bound.
            most: at most so many, the first; what there is beyond them is not asked for.
        """

    def copies(self, folder: str) -> AsyncIterator[Copy]:
        """Yield all that there is under a folder, versions and marks of deletions included."""

    async def remove_copies(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove copies for good, and folders that are empty then. One that is gone already is no error.

        Returns:
            those that the store does not let go of, each with a reason such as `forbidden`.
        """

    async def link(self, key: str, valid_s: int) -> str | None:
        """Return an address that anybody may read an object at for so long, or None where there is none."""


class FileStore(Protocol):
    """Keeps bare files beside the objects: nothing is known of them but their bytes.

    As in `ObjectStore` a key always means the same content, and every method may raise `StoreUnavailable`.
    """

    async def keep(self, key: str, body: bytes) -> None:
        """Make a file durable; nothing is done where it is there already."""

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return a file, or the part of it from one byte up to another.

        Raises:
            NoSuchObject: there is none.
        """

    async def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        """Yield what lies under a folder; see `ObjectStore.entries`."""

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly within a folder; see `ObjectStore.folders`."""


class WholeStore(ObjectStore, FileStore, Protocol):
    """Keeps objects, and bare files beside them."""

    async def create(self, key: str, body: bytes) -> bool:
        """Make a file durable unless there is one of this key; return whether what is there is this.

        Of several who create one of the same key one is told so, if the store knows conditional writes.

        Raises:
            StoreUnavailable: see `FileStore`.
        """

    async def clear_unfinished(self, before: datetime) -> int:
        """Remove what writers have begun before a time and not finished: they are dead, or begin once more.

        Returns:
            how many files that were.
        """


ROOM_BYTES = 64 * 1024
"""With less room than this a store is full: hardly a face fits in."""
ROOM_AFTER_FULL_BYTES = 256 * 1024
"""A store that was full is so until this much fits in: it would come and go with each face otherwise."""

PROBE = StoredObject(
    ".faceferry/probe",
    b"Faceferry writes this at each start.\n",
    "text/plain",
    {"type": "faceferry.probe.v1"},
)
