import asyncio
import contextlib
import errno
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self, TypeVar

from services.common.errors import Refused, SetupError
from services.common.runtime.files import PRIVATE
from services.common.storage import files, folder_scan, sidecar
from services.common.storage.keys import ABOUT
from services.common.storage.objects import (
    PROBE,
    ROOM_AFTER_FULL_BYTES,
    Copy,
    ListedObject,
    NoSuchObject,
    StoredObject,
    StoreUnavailable,
)
from services.common.storage.root_folder import GONE, MARK, RootFolder
from services.common.wire import times
from services.common.wire.cloudevents import is_time_known

WRITERS = 4
"""Threads that write. Each waits for fsync, which file systems do together for several."""
OLD_S = 3600.0
"""Age in seconds from which a temporary file belongs to no running process."""
CHECK_LIMIT_S = 2.5
"""A disk or file server that takes longer to write a small file does not work at present."""

LISTERS = 2
"""Threads that read folders, so that an image does not wait for a hundred thousand names."""
NAMES_AT_A_TIME = 1_000
MOST_AT_ONCE = 4_096

_HOPELESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})
_REASONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
    errno.ENOENT: "removed",
}

T = TypeVar("T")


class FolderStore:
    """Keeps objects as files, each with its metadata in a `.json` beside it.

    An object is complete or absent: it is written elsewhere under the root, made durable, and linked into
    place after its `.json`. Several processes may share a folder.

    Args:
        root: the folder; made at `verify`, and again after it was removed. See `RootFolder`.
        may_make: whether it may be made; else it is `StoreUnavailable` until it is there.
        mode: of the files; those who may read files may search folders.
    """

    check_every_s = 2.0

    def __init__(self, root: Path, *, may_make: bool = True, mode: int = PRIVATE) -> None:
        self._root = root
        self._mode = mode
        self._root_folder = RootFolder(root, may_make=may_make, mode=mode)
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="storage.folder")
        # Of its own, so that a check does not wait for faces.
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="storage.check")
        self._listers = ThreadPoolExecutor(LISTERS, thread_name_prefix="storage.list")
        self._durable_folders: set[str] = set()
        self._is_gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._checker.shutdown()
        self._listers.shutdown()

    async def verify(self) -> None:
        """Find or make the folder, write a probe, and remove temporary files of crashed processes."""
        await self._run(self._verify)

    async def check(self, room_bytes: int) -> None:
        """Write and remove a little. A folder that is missing at two checks is made again."""
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                await self._run(lambda: self._check(room_bytes), self._checker)
        except TimeoutError as error:
            detail = f"{self._root} has not answered for {CHECK_LIMIT_S} s"
            raise StoreUnavailable("timeout", detail) from error

    async def put(self, item: StoredObject) -> bool:
        """Write an object and make it durable."""
        return await self._run(lambda: self._put(item))

    async def get(self, key: str) -> StoredObject:
        """Read an object."""
        return await self._run(lambda: self._get(key))

    async def about(self, key: str) -> Mapping[str, str]:
        """Return an object's metadata."""
        return (await self._run(lambda: self._about(key)))[1]

    async def keep(self, key: str, body: bytes) -> None:
        """Write a plain file and make it durable."""
        await self._run(lambda: self._in_root(lambda root: self._keep(root, key, body)))

    async def create(self, key: str, body: bytes) -> bool:
        """Write a plain file unless it exists; return whether it holds `body`."""
        return await self._run(lambda: self._in_root(lambda root: self._create(root, key, body)))

    async def clear_unfinished(self, before: datetime) -> int:
        """Remove older temporary files; a writer that misses its own writes another."""
        return await self._run(lambda: self._clear_away(before.timestamp()))

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Read a file, or a part of it."""
        return await self._run(lambda: self._fetch(key, start, end), self._listers)

    async def remove(self, key: str) -> None:
        """Remove a file."""
        await self._run(lambda: self._in_root(lambda root: files.remove(root, key)))

    async def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        """Yield all objects under a folder."""
        for entry in await self._run(lambda: list(self._walk(folder))):
            yield entry

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        """Return the first objects directly in a folder, sorted by name."""
        return await self._run(
            lambda: folder_scan.sized(
                self._root, folder, folder_scan.first(self._root / folder, count, after, before)
            ),
            self._listers,
        )

    async def reverse_entries(
        self, folder: str, *, before: str = "", at_once: int = 64
    ) -> AsyncIterator[ListedObject]:
        """Yield the objects directly in a folder, the last name first."""
        while True:
            entries = await self._last(folder, at_once, before)
            for entry in reversed(entries):
                yield entry
            if len(entries) < at_once:
                return
            before = entries[0].key.rpartition("/")[2]
            # A caller that took so many takes more, and all names are read each time.
            at_once = min(MOST_AT_ONCE, at_once * 4)

    async def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        """Yield all names directly in a folder, in batches."""
        # The generator closes the folder at its last reference, not here: a thread may still be reading when
        # the caller stops early.
        names = folder_scan.names(self._root / folder, after, before)
        while lot := await self._run(lambda: list(islice(names, NAMES_AT_A_TIME)), self._listers):
            yield lot

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        """Return the paths of the folders directly in a folder, sorted."""
        found = await self._run(lambda: folder_scan.folders(self._root / folder, most, after), self._listers)
        return [f"{folder}/{name}" if folder else name for name in found]

    async def copies(self, folder: str) -> AsyncIterator[Copy]:
        """Yield all files under a folder."""
        found = folder_scan.copies(self._root, folder)
        while lot := await self._run(lambda: list(islice(found, NAMES_AT_A_TIME)), self._listers):
            for copy in lot:
                yield copy

    async def remove_copies(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        """Remove files, and folders that become empty."""
        return await self._run(lambda: self._in_root(lambda root: folder_scan.remove(root, copies)))

    async def link(self, key: str, valid_s: int) -> str | None:  # noqa: ARG002 - a folder has no addresses
        """Return None: a folder has no addresses."""
        return None

    async def _last(self, folder: str, count: int, before: str) -> list[ListedObject]:
        return await self._run(
            lambda: folder_scan.sized(
                self._root, folder, folder_scan.last(self._root / folder, count, before)
            ),
            self._listers,
        )

    async def _run(self, work: Callable[[], T], threads: ThreadPoolExecutor | None = None) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, "unreachable")
            raise StoreUnavailable(reason, str(error)) from error

    def _verify(self) -> None:
        try:
            self._locate_root()
            self._try_room(ROOM_AFTER_FULL_BYTES)
            self._clear_away(time.time() - OLD_S)
            self._in_root(self._probe)
        except OSError as error:
            if error.errno not in _HOPELESS:
                raise
            raise SetupError(f"{self._root} cannot be written to (FACEFERRY_STORE_URL): {error}") from error

    def _probe(self, root: int) -> None:
        self._keep(root, PROBE.key, PROBE.body)
        files.remove(root, sidecar.key_of(PROBE.key))  # older versions wrote one; the probe is not a face

    def _locate_root(self) -> None:
        self._root_folder.locate()
        self._durable_folders.clear()

    def _clear_away(self, before_s: float) -> int:
        cleared = 0
        with contextlib.suppress(FileNotFoundError):
            for path in (self._root / files.TEMPORARY).iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before_s:
                        path.unlink()
                        cleared += 1
        return cleared

    def _check(self, room_bytes: int) -> None:
        try:
            self._try_room(room_bytes)
        except StoreUnavailable as error:
            # Only at the second check: the folder may just be being removed.
            if error.reason not in GONE or not self._is_gone:
                self._is_gone = error.reason in GONE
                raise
            self._locate_root()
            self._try_room(room_bytes)
        self._is_gone = False

    def _try_room(self, room_bytes: int) -> None:
        self._in_root(lambda root: self._try_room_in(root, room_bytes))

    def _try_room_in(self, root: int, room_bytes: int) -> None:
        self._make_durable_folder(root, files.TEMPORARY)
        files.try_room(root, room_bytes)

    def _put(self, item: StoredObject) -> bool:
        return self._in_root(lambda root: self._put_into(root, item))

    def _in_root(self, work: Callable[[int], T]) -> T:
        with self._root_folder.opened() as root:
            try:
                return work(root)
            except FileNotFoundError:
                self._durable_folders.clear()  # a folder that was known to be durable has been removed
                return work(root)

    def _put_into(self, root: int, item: StoredObject) -> bool:
        key = PurePosixPath(item.key)
        self._make_durable_folder(root, files.TEMPORARY)
        self._make_durable_folder(root, str(key.parent))
        if files.exists(root, item.key):
            # Its writer may have died before the link was durable.
            files.sync_names(root, str(key.parent))
            return False
        with files.temporary(root, sidecar.write(item.content_type, item.metadata), self._mode) as written:
            files.replace(root, written, sidecar.key_of(item.key))
        with files.temporary(root, item.body, self._mode) as written:
            is_new = files.place(root, written, item.key)
        files.set_time(root, item.key, _taken_at(item))
        files.sync_names(root, str(key.parent))
        return is_new

    def _keep(self, root: int, key: str, body: bytes) -> bool:
        folder = str(PurePosixPath(key).parent)
        self._make_durable_folder(root, files.TEMPORARY)
        self._make_durable_folder(root, folder)
        with files.temporary(root, body, self._mode) as written:
            is_new = files.place(root, written, key)
        files.sync_names(root, folder)
        return is_new

    def _create(self, root: int, key: str, body: bytes) -> bool:
        # On file systems without links a file is replaced, so its name is checked first.
        is_new = not files.exists(root, key) and self._keep(root, key, body)
        return is_new or self._fetch(key, 0, None) == body

    def _fetch(self, key: str, start: int, end: int | None) -> bytes:
        try:
            with (self._root / key).open("rb") as file:
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        except FileNotFoundError as error:
            raise NoSuchObject(key) from error

    def _make_durable_folder(self, root: int, folder: str) -> None:
        """Make a folder durable.

        Each process does so once: a folder that another one has just made may not be durable yet.
        """
        if folder in self._durable_folders:
            return
        files.make_folders(root, folder, self._mode)
        if len(self._durable_folders) > 10_000:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _get(self, key: str) -> StoredObject:
        content_type, metadata = self._about(key)
        try:
            return StoredObject(key, (self._root / key).read_bytes(), content_type, metadata)
        except FileNotFoundError as error:
            raise NoSuchObject(key) from error

    def _about(self, key: str) -> tuple[str, dict[str, str]]:
        """Return an object's type and metadata; without a readable `.json` there is no such object."""
        try:
            return sidecar.read((self._root / sidecar.key_of(key)).read_bytes())
        except (FileNotFoundError, ValueError) as error:
            raise NoSuchObject(key) from error

    def _walk(self, folder: str) -> Iterator[ListedObject]:
        for where, _folders, names in os.walk(self._root / folder):
            for name in names:
                path = Path(where, name)
                key = path.relative_to(self._root).as_posix()
                if path.suffix != ABOUT and key != MARK:
                    with contextlib.suppress(FileNotFoundError):
                        yield ListedObject(key, path.stat().st_size)


def _taken_at(item: StoredObject) -> datetime | None:
    """Return when a picture was taken, or None if its camera did not know the time."""
    if not is_time_known(item.metadata):
        return None
    with contextlib.suppress(Refused):
        return times.parse_rfc3339(item.metadata.get("time", ""))
    return None
