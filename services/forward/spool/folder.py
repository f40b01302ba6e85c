"""The spool's folder, which one process has at a time, and a reserve of room on its disk."""

import os
from pathlib import Path

import structlog

from services.common.errors import FaceferryError, SetupError
from services.common.runtime.files import make_folders, private
from services.forward.spool.database import SpoolUnwritable


class SpoolTaken(FaceferryError):
    """The folder is gone, or was replaced by another: the open files are not the spool any more."""


class SpoolFolder:
    """The folder of a spool, which people move and delete, and disks take with them.

    Args:
        path: where it is; it must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path)

    def see(self, *, is_empty: bool) -> None:
        """Check that it is still the folder that it was; another one may be another process's.

        Args:
            is_empty: whether no faces wait in it.

        Raises:
            SpoolTaken: it is another one, or it is gone and no faces are lost with it.
            SpoolUnwritable: it is gone; faces in the open files can still be sent.
        """
        try:
            identity = _identity(self.path)
        except OSError as error:
            if is_empty:
                raise SpoolTaken(f"{self.path} is gone") from error
            raise SpoolUnwritable(str(error)) from error
        if identity != self._identity:
            raise SpoolTaken(f"{self.path} was replaced by another folder")


def prepare(folder: Path) -> None:
    """Make the spool's folder, and check that it can be written.

    Raises:
        SetupError: it cannot be made or written.
    """
    try:
        make_folders(folder)
    except OSError as error:
        raise SetupError(f"FACEFERRY_SPOOL_PATH: {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SetupError(f"FACEFERRY_SPOOL_PATH: {folder} cannot be written")


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


DISK_FULL = "the disk is full"
"""The problem of a full disk, in logs and readiness."""
LEAST_FREE_BYTES = 2 * 1024 * 1024
"""A disk with less than a commit's worth of room counts as full."""

log = structlog.get_logger()


class Reserve:
    """Room on the disk that is kept for deletes, which would fail on a full disk, too.

    Args:
        path: the file that takes the room.
        size_bytes: how much.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._is_told = False
        self._had_room = True

    @property
    def is_kept(self) -> bool:
        """Whether the file exists, in its full size."""
        return self._path.exists() and self._path.stat().st_size >= self._size_bytes

    def is_room_left(self) -> bool:
        """Say whether the disk has room beside the reserve; after it had none, twice as much is asked for."""
        wanted = LEAST_FREE_BYTES if self._had_room else 2 * LEAST_FREE_BYTES
        self._had_room = free_bytes(self._path.parent) >= wanted
        return self._had_room

    def keep(self) -> None:
        """Take the room if the disk has twice as much, so that it is not full again with the next face."""
        if self.is_kept or free_bytes(self._path.parent) < 2 * self._size_bytes:
            return
        try:
            with open(self._path, "wb", opener=private) as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if not self._is_told:
                log.warning("spool.no_reserve", error=str(error))
            self._is_told = True
        else:
            self._is_told = False

    def release(self) -> None:
        """Free the room."""
        if self._path.exists():
            self._path.unlink()

    def touch(self) -> None:
        """Write a byte of it, which takes no room, to notice a disk that takes no writes before a face comes.

        Raises:
            OSError: the disk takes no writes.
        """
        with self._path.open("r+b", buffering=0) as file:
            file.write(b"\0")


def free_bytes(folder: Path) -> int:
    """Return how many bytes a process without privileges may still write to a folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
