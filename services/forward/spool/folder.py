"""The spool's folder: nobody else's at the same time, and a reserve on its disk."""

import os
from pathlib import Path

import structlog

from services.common.errors import FaceferryError, SetupError
from services.common.runtime.files import make_folders, private
from services.forward.spool.database import SpoolUnwritable


class SpoolTaken(FaceferryError):
    """The folder is gone, or another one than it was: what is held here is not the spool any more."""


class SpoolFolder:
    """The folder of a spool, which people move and delete, and disks take with them.

    Args:
        path: where it is; it must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = _identity(path)

    def see(self, *, is_empty: bool) -> None:
        """See that it is still the one that is held; a new one may be another process's.

        Args:
            is_empty: nothing waits in it.

        Raises:
            SpoolTaken: it is another one, or it is gone and nothing is lost with it.
            SpoolUnwritable: it is gone; what is in the open files can still be sent.
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
    """Make the spool's folder, and see that it can be written.

    Raises:
        SetupError: it cannot.
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
"""What is said of it, wherever it is met."""
LEAST_FREE_BYTES = 2 * 1024 * 1024
"""With less than a commit's worth left on the disk it is full, even if nobody has met that yet."""

log = structlog.get_logger()


class Reserve:
    """Room on the disk that is kept for letting faces go, which a full disk would make fail as well.

    Args:
        path: the file that keeps it.
        size_bytes: how much.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._is_told = False
        self._had_room = True

    @property
    def is_kept(self) -> bool:
        """Whether it is there."""
        return self._path.exists() and self._path.stat().st_size >= self._size_bytes

    def is_room_left(self) -> bool:
        """Say whether the disk has room for faces, beside what is kept; after it had none, clearly so."""
        wanted = LEAST_FREE_BYTES if self._had_room else 2 * LEAST_FREE_BYTES
        self._had_room = free_bytes(self._path.parent) >= wanted
        return self._had_room

    def keep(self) -> None:
        """Take it, if the disk has twice as much: it shall not be full again with the next face."""
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
        """Give it to whoever needs room just now."""
        if self._path.exists():
            self._path.unlink()

    def touch(self) -> None:
        """Write a byte of it, which takes no room: so a disk that takes no writes is met, before a face is.

        Raises:
            OSError: it takes none.
        """
        with self._path.open("r+b", buffering=0) as file:
            file.write(b"\0")


def free_bytes(folder: Path) -> int:
    """Return how much room there is on a folder's disk for those who are not its owner."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
