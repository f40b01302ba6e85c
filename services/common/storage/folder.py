import asyncio
import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from services.common.durable import sync_folder
from services.common.errors import SetupError
from services.common.storage.objects import PROBE, Entry, NoSuchObject, StoredObject, StoreUnavailable

WRITERS = 4
"""Threads. Each spends its time in fsync, which file systems do together for several."""
OLD_S = 3600.0
"""Age in seconds at which a temporary file has no owner any more."""

_SIZED_AT_ONCE = 128
_TEMPORARY = Path(".faceferry/tmp")
_HOPELESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_REASONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "forbidden",
    errno.EIO: "io_error",
}
_CONTENT_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}

T = TypeVar("T")


class FolderStore:
    """Keeps objects as files, and what is known about them in a `.json` beside each.

    An object is complete or not there: it is written elsewhere under the root, made durable, and then
    linked into place, after its `.json`. Several processes may share a folder.

    Args:
        root: the folder; made at `verify`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="storage.folder")
        self._durable_folders: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    async def verify(self) -> None:
        """Make the folder, write a probe into it, and clear away what crashed processes left."""
        await self._run(self._verify)

    async def put(self, item: StoredObject) -> bool:
        """Write an object and make it durable."""
        return await self._run(lambda: self._put(item))

    async def get(self, key: str) -> StoredObject:
        """Read an object."""
        return await self._run(lambda: self._get(key))

    async def entries(self, folder: str) -> AsyncIterator[Entry]:
        """Yield what lies under a folder."""
        for entry in await self._run(lambda: list(self._walk(folder))):
            yield entry

    async def within(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[Entry]:
        """Yield what lies directly within a folder, in order; sizes are looked up as they are wanted."""
        names = await self._run(lambda: self._names(folder, after, before))
        for start in range(0, len(names), _SIZED_AT_ONCE):
            chunk = names[start : start + _SIZED_AT_ONCE]
            for entry in await self._run(lambda chunk=chunk: list(self._sized(folder, chunk))):  # type: ignore[misc]
                yield entry

    async def folders(self, folder: str) -> list[str]:
        """Return the folders within a folder."""
        return await self._run(lambda: self._folders(folder))

    async def link(self, key: str, valid_s: int) -> str | None:  # noqa: ARG002 - a folder has no addresses
        """Return nothing: files have no address for others."""
        return None

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, "unreachable")
            raise StoreUnavailable(reason, str(error)) from error

    def _verify(self) -> None:
        try:
            self._make_durable_folder(self._root / _TEMPORARY)
            self._clear_away()
            self._put(PROBE)
        except OSError as error:
            if error.errno not in _HOPELESS:
                raise
            raise SetupError(f"{self._root} cannot be written to (FACEFERRY_STORE_URL): {error}") from error

    def _clear_away(self) -> None:
        for path in (self._root / _TEMPORARY).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > OLD_S:
                    path.unlink()

    def _put(self, item: StoredObject) -> bool:
        target = self._root / item.key
        self._make_durable_folder(target.parent)
        try:
            if target.exists():
                # Whoever linked it may have died before the link was durable.
                sync_folder(target.parent)
                return False
            return self._write_both(target, item)
        except FileNotFoundError:
            self._durable_folders.clear()  # somebody has removed a folder that was known
            raise

    def _write_both(self, target: Path, item: StoredObject) -> bool:
        about = {"content_type": item.content_type, "metadata": dict(item.metadata)}
        with self._temporary(json.dumps(about, indent=1).encode() + b"\n") as written:
            written.replace(target.with_suffix(".json"))
        with self._temporary(item.body) as written:
            is_new = _place(written, target)
        sync_folder(target.parent)
        return is_new

    @contextlib.contextmanager
    def _temporary(self, content: bytes) -> Iterator[Path]:
        path = self._root / _TEMPORARY / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _make_durable_folder(self, folder: Path) -> None:
        """Make a folder and those above it, so that none of them is lost in a power cut.

        A folder that another process has just made may not be durable yet, hence once for each process.
        """
        if folder in self._durable_folders:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for above in folder.parents:
            sync_folder(above)
            if above == self._root.parent:
                break
        if len(self._durable_folders) > 10_000:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _get(self, key: str) -> StoredObject:
        path = self._root / key
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            return StoredObject(key, path.read_bytes(), about["content_type"], about["metadata"])
        except FileNotFoundError as error:
            raise NoSuchObject(key) from error

    def _walk(self, folder: str) -> Iterator[Entry]:
        for where, _folders, names in os.walk(self._root / folder):
            for name in names:
                path = Path(where, name)
                if path.suffix != ".json":
                    with contextlib.suppress(FileNotFoundError):
                        yield Entry(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def _names(self, folder: str, after: str, before: str) -> list[str]:
        try:
            names = os.listdir(self._root / folder)  # noqa: PTH208 - a name is wanted, not a path each
        except FileNotFoundError:
            return []
        return sorted(
            name
            for name in names
            if after < name and (not before or name < before) and not name.endswith(".json")
        )

    def _sized(self, folder: str, names: list[str]) -> Iterator[Entry]:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield Entry(f"{folder}/{name}", (self._root / folder / name).stat().st_size)

    def _folders(self, folder: str) -> list[str]:
        path = self._root / folder
        if not path.is_dir():
            return []
        return sorted(
            entry.relative_to(self._root).as_posix()
            for entry in path.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )


def _place(written: Path, target: Path) -> bool:
    """Give a written file its name; return whether nobody had it before."""
    try:
        os.link(written, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        written.replace(target)  # what it may replace is the same, byte for byte
    return True
