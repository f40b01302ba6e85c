"""The interface of stores: a bucket or a folder that keeps objects."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.common.errors import FaceferryError


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with its metadata.

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
    """One copy of an object in a store: a file, a version, or the mark of a deletion.

    Attributes:
        key: the object's, or in a folder that of its `.json`.
        came: when it was written, UTC.
        version: its id, where a bucket keeps versions; else None.
    """

    key: str
    came: datetime
    version: str | None = None


class StoreUnavailable(FaceferryError):
    """The store cannot be used at present; trying again may help.

    Args:
        reason: a short constant such as `forbidden`; a metric label.
        detail: what exactly went wrong, for a log line; no secrets.
        retry_after_s: seconds for which the store asked clients to wait; None if it did not.
    """

    def __init__(self, reason: str, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class NoSuchObject(FaceferryError):
    """There is no object of this key."""


class ObjectStore(Protocol):
    """Keeps objects. A key always means the same content, so that a second write changes nothing.

    Every method raises `StoreUnavailable` where trying again may help.

    Attributes:
        check_every_s: seconds between checks while nothing else is written; a check may cost money.
    """

    check_every_s: float

    async def verify(self) -> None:
        """Write a probe and read it back, to find errors before the first face comes.

        Raises:
            SetupError: the set-up can never work.
        """

    async def check(self, room_bytes: int) -> None:
        """Return if objects can be written at present; it writes, because nothing else shows that.

        Args:
            room_bytes: bytes that must fit; ignored by buckets.
        """

    async def put(self, item: StoredObject) -> bool:
        """Make an object durable; return whether it is known to be new.

        After this returns, neither a crash nor a power cut on the store's side loses the object.
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
        """Yield all objects under a folder (no `/` at its end; `""` for everything), in any order."""

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        """Return the first objects directly in a folder, sorted by name.

        Args:
            folder: one that holds objects and no folders.
            count: how many; fewer are returned only where there are no more.
            after: only names greater than this; `""` for no bound.
            before: only names less than this; `""` for no bound.
        """

    def reverse_entries(
        self, folder: str, *, before: str = "", at_once: int = 64
    ) -> AsyncIterator[ListedObject]:
        """Yield the objects directly in a folder, the last name first.

        Args:
            folder: one that holds objects and no folders; of a bucket, one in a day's folder.
            before: only names less than this; `""` for no bound.
            at_once: how many the caller is likely to take. In a bucket the cost grows with how many are
                taken, not with how many there are.
        """

    def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        """Yield all names directly in a folder, in batches, in any order."""

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly in a folder, sorted.

        Args:
            folder: `""` for the root.
            after: only names greater than this; `""` for no bound.
            most: how many, at most; a bucket is not asked for more.
        """

    def copies(self, folder: str) -> AsyncIterator[Copy]:
        """Yield all copies under a folder, versions and marks of deletions included."""

    async def remove_copies(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove copies for good, and folders that become empty. One that is gone already is no error.

        Returns:
            the copies that the store refuses to remove, each with a reason such as `forbidden`.
        """

    async def link(self, key: str, valid_s: int) -> str | None:
        """Return an address that reads an object without a key for `valid_s` seconds; None for a folder."""


class FileStore(Protocol):
    """Keeps plain files beside the objects, which have no metadata.

    As in `ObjectStore` a key always means the same content, and every method may raise `StoreUnavailable`.
    """

    async def keep(self, key: str, body: bytes) -> None:
        """Make a file durable; one that exists is left as it is."""

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return a file, or its bytes from `start` up to `end`, which is not included.

        Raises:
            NoSuchObject: there is none.
        """

    async def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        """Yield all files under a folder; see `ObjectStore.entries`."""

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly in a folder; see `ObjectStore.folders`."""


class WholeStore(ObjectStore, FileStore, Protocol):
    """Keeps objects, and plain files beside them."""

    async def create(self, key: str, body: bytes) -> bool:
        """Make a file durable unless its key exists; return whether the key holds this content.

        Of several writers of one key only one gets True, if the store has conditional writes.

        Raises:
            StoreUnavailable: see `FileStore`.
        """

    async def clear_unfinished(self, before: datetime) -> int:
        """Remove temporary files from before a time; a writer that misses its own begins again.

        Returns:
            the number of files removed.
        """


ROOM_BYTES = 64 * 1024
"""With less room than this a store is full: hardly one face fits."""
ROOM_AFTER_FULL_BYTES = 256 * 1024
"""A full store stays full until this much fits: its state would change with each face otherwise."""

PROBE = StoredObject(
    ".faceferry/probe",
    b"Faceferry writes this at each start.\n",
    "text/plain",
    {"type": "faceferry.probe.v1"},
)
