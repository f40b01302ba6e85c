import os
from pathlib import Path

from services.common.errors import FaceferryError, SetupError
from services.common.runtime.files import make_folders
from services.forward.database import SpoolUnwritable


class SpoolTaken(FaceferryError):
    """The folder is gone, or another one than it was: what is held here is not the spool any more."""


class Folder:
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
