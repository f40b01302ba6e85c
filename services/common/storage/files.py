"""Files below an open folder, written so that a power cut leaves a whole file or none.

Names are relative to the folder's descriptor. While it is open, its file system cannot be unmounted or
replaced at that path, so that files go where they were meant to go.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from services.common.runtime.files import PRIVATE, create, make_folder
from services.common.wire.times import EPOCH

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OWN = ".faceferry"
TEMPORARY = f"{OWN}/tmp"  # noqa: S108 - below the store's folder, not the system's

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
_NO_RESERVING = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_TRIAL_FILE_BYTES = 64 * 1024
_MOST_TRIAL_FILES = 16


def exists(root: int, name: str) -> bool:
    """Say whether there is a file of this name."""
    try:
        os.stat(name, dir_fd=root)
    except FileNotFoundError:
        return False
    return True


def sync_names(root: int, folder: str) -> None:
    """Make the names in a folder durable: what was made, linked, renamed or removed there."""
    descriptor = os.open(folder, OPEN_FOLDER, dir_fd=root)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(root: int, folder: str, mode: int = PRIVATE) -> None:
    """Make a folder and those above it, and make them durable, also those that existed.

    Args:
        root: a descriptor of the folder that they lie in.
        folder: the last of them, as a path below it.
        mode: of the files in it; see `runtime.files.make_folder`.
    """
    path = PurePosixPath(folder)
    for part in [*reversed(path.parents[:-1]), path]:
        make_folder(part, mode, within=root)
    for part in path.parents:
        sync_names(root, str(part))


@contextlib.contextmanager
def temporary(root: int, content: bytes, mode: int = PRIVATE) -> Iterator[str]:
    """Write a durable temporary file; yield its name. It is removed at the end, unless it was placed.

    Args:
        root: a descriptor of the store's folder.
        content: all of the file.
        mode: of the file, which it keeps where it is placed.
    """
    name = f"{TEMPORARY}/{secrets.token_hex(16)}"
    try:
        with os.fdopen(create(name, mode, within=root), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield name
    finally:
        remove(root, name)


def place(root: int, written: str, target: str) -> bool:
    """Link a written file to its name; return False where the name exists already."""
    try:
        os.link(written, target, src_dir_fd=root, dst_dir_fd=root)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        replace(root, written, target)  # what it may replace is the same, byte for byte
    return True


def set_time(root: int, name: str, time: datetime | None) -> None:
    """Set a file's modification time, which photo programs sort by; None leaves it.

    Errors are ignored: not every file system has every time, and the face is whole without it.
    """
    if time is not None:
        nanoseconds = (time - EPOCH) // timedelta(microseconds=1) * 1_000
        with contextlib.suppress(OSError, OverflowError):
            os.utime(name, ns=(nanoseconds, nanoseconds), dir_fd=root)


def replace(root: int, written: str, target: str) -> None:
    """Rename a written file, over one that has the name."""
    os.replace(written, target, src_dir_fd=root, dst_dir_fd=root)


def try_room(root: int, room_bytes: int) -> None:
    """Return if there is room for so many bytes, in files of a usual size, which are removed again.

    Where the file system can do that, room is reserved and not written: this runs every few seconds.

    Raises:
        OSError: there is no room, or no file or folder can be made.
    """
    count = min(_MOST_TRIAL_FILES, max(1, room_bytes // _TRIAL_FILE_BYTES))
    names = [f"{TEMPORARY}/{secrets.token_hex(16)}" for _ in range(count)]
    try:
        for name in names:
            descriptor = create(name, within=root)
            try:
                _reserve(descriptor, room_bytes // count)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    finally:
        for name in names:
            remove(root, name)
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
        # The folder of the next day could not be made, although there is a place for temporary files.
        raise PermissionError(errno.EACCES, "no folder can be made in it")


def _reserve(descriptor: int, size_bytes: int) -> None:
    os.write(descriptor, b"Faceferry tries whether it can write.\n")
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _NO_RESERVING:
            raise
        with open(descriptor, "wb", closefd=False) as file:
            file.write(bytes(size_bytes))


def remove(root: int, name: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=root)
