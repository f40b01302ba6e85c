"""The root folder of a store, told from other folders that may appear at its path.

A disk can be unmounted under a running service, or be mounted late: its mount point is then an ordinary
folder on the system's disk. So a store has a mark in it, and none is made where a disk is missing.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import structlog

from services.common.runtime.files import PRIVATE, make_folder, sync_folder
from services.common.storage import files
from services.common.storage.mounts import declared_mount_point, is_above, mount_point
from services.common.storage.objects import StoreUnavailable

MARK = f"{files.OWN}/store"
"""It is JSON without the suffix: `**/*.json` must match the metadata of faces only."""
FORMER_MARK = f"{MARK}.json"
GONE = frozenset({"removed", "changed"})
"""Reasons that `RootFolder.settle` may repair."""

log = structlog.get_logger()


class RootFolder:
    """Finds the root folder of a store, and checks at each use that it is still the same.

    Args:
        path: the folder.
        may_make: whether it may be made, or become a store, where there is no mark.
        mode: of the files in it.
    """

    def __init__(self, path: Path, *, may_make: bool, mode: int = PRIVATE) -> None:
        self._path = path
        self._may_make = may_make
        self._mode = mode
        self._mark: str | None = None
        self._mark_at: tuple[int, int, int] | None = None
        self._mounted_at = Path("/")

    def locate(self) -> None:
        """Find the store, or make one where no file system is missing.

        One is missing if `/etc/fstab` names it, or the store was last seen on it, and it is not mounted. A
        file system that was mounted over the store holds the store from now on.

        Raises:
            StoreUnavailable: `not_mounted`, or `no_store` where none may be made.
            OSError: a folder or the mark cannot be made.
        """
        path = Path(os.path.realpath(self._path))
        with _nearest(path) as (folder, missing):
            if (why := self._why_not_mounted(folder)) is not None:
                raise StoreUnavailable("not_mounted", why)
            if not self._may_make and (
                missing or (_mark_in(folder) or _mark_in(folder, FORMER_MARK)) is None
            ):
                raise StoreUnavailable("no_store", f"{self._path} has no {MARK}, and none is to be made")
            mounted_at = mount_point(folder)
            root = _make(folder, missing, self._mode)
        try:
            _sync_parent(path)
            _rename_former_mark(root)
            found = _mark_in(root)
            mark = found or _make_mark(root, self._mode)
        finally:
            os.close(root)
        if self._mark is not None:
            log.warning(
                "store.folder_found_again", folder=str(path), is_new=found is None, mounted_at=str(mounted_at)
            )
        self._mark, self._mark_at, self._mounted_at = mark, None, mounted_at

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Yield a descriptor of the store's folder, valid within the context.

        Raises:
            StoreUnavailable: `not_mounted`, `removed`, or `changed`: another folder lies at the path.
        """
        if self._mark is None:
            self.locate()
        try:
            root = os.open(self._path, files.OPEN_FOLDER)
        except FileNotFoundError as error:
            raise self._gone("removed") from error
        try:
            if not self._is_known(root):
                raise self._gone("changed")
            yield root
        finally:
            os.close(root)

    def _is_known(self, root: int) -> bool:
        try:
            about = os.stat(MARK, dir_fd=root)
        except FileNotFoundError:
            return False
        mark_at = (about.st_dev, about.st_ino, about.st_ctime_ns)
        if mark_at != self._mark_at:
            # A store that was copied to a disk has left its mark in the folder below the mount point, too.
            if _mark_in(root) != self._mark or self._why_not_mounted(root) is not None:
                return False
            self._mark_at, self._mounted_at = mark_at, mount_point(root)
        return True

    def _gone(self, reason: str) -> StoreUnavailable:
        with _nearest(Path(os.path.realpath(self._path))) as (folder, _missing):
            why = self._why_not_mounted(folder)
        if why is not None:
            return StoreUnavailable("not_mounted", why)
        return StoreUnavailable(reason, f"the store in {self._path} is not there any more")

    def _why_not_mounted(self, folder: int) -> str | None:
        here, path = mount_point(folder), Path(os.path.realpath(self._path))
        declared = declared_mount_point(path)
        if is_above(here, declared):
            return f"nothing is mounted at {declared}, which /etc/fstab names"
        # A symbolic link that was changed to lead elsewhere is meant.
        if is_above(here, self._mounted_at) and path.is_relative_to(self._mounted_at):
            return f"what the store lay on is not mounted at {self._mounted_at} any more"
        return None


@contextlib.contextmanager
def _nearest(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Open the nearest folder that exists at or above a path; yield its descriptor and the missing names."""
    missing: list[str] = []
    for folder in (path, *path.parents):
        try:
            descriptor = os.open(folder, files.OPEN_FOLDER)
        except FileNotFoundError:
            missing.insert(0, folder.name)
            continue
        try:
            yield descriptor, missing
        finally:
            os.close(descriptor)
        return


def _make(folder: int, missing: list[str], mode: int) -> int:
    """Make folders below an open one, each durable; return a descriptor of the last, or of the open one."""
    current = os.open(".", files.OPEN_FOLDER, dir_fd=folder)
    for name in missing:
        try:
            make_folder(name, mode, within=current)
            os.fsync(current)
            below = os.open(name, files.OPEN_FOLDER, dir_fd=current)
        finally:
            os.close(current)
        current = below
    return current


def _sync_parent(path: Path) -> None:
    """Make a folder's own name durable: another process may have just made it."""
    with contextlib.suppress(
        PermissionError
    ):  # without the right to open it this process has not made it either
        sync_folder(path.parent)


def _rename_former_mark(root: int) -> None:
    """Rename the mark in a store of an older version, or remove it where both exist."""
    if not files.exists(root, FORMER_MARK):
        return
    with contextlib.suppress(FileNotFoundError):  # another replica was first
        if _mark_in(root) is None and _mark_in(root, FORMER_MARK) is not None:
            files.replace(root, FORMER_MARK, MARK)
        files.remove(root, FORMER_MARK)
        files.sync_names(root, files.OWN)


def _mark_in(root: int, name: str = MARK) -> str | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        try:
            about = json.loads(os.read(descriptor, 4096))
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ValueError):
        return None
    found = about.get("store") if isinstance(about, dict) else None
    return found if isinstance(found, str) else None


def _make_mark(root: int, mode: int) -> str:
    mark = secrets.token_hex(16)
    about = {
        "store": mark,
        "about": "Faceferry tells this folder from an empty mount point by this file. Leave it here.",
    }
    files.make_folders(root, files.TEMPORARY, mode)
    with files.temporary(root, json.dumps(about, indent=1).encode() + b"\n", mode) as written:
        # The first of several replicas makes it, and the others take its mark. An unreadable one is replaced.
        if not files.place(root, written, MARK) and _mark_in(root) is None:
            files.replace(root, written, MARK)
    files.sync_names(root, files.OWN)
    return _mark_in(root) or mark
