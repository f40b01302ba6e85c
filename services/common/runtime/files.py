"""Files: who may read what is written, whatever the umask; folders made durable; names in URLs."""

import errno
import os
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import quote, unquote_to_bytes

PRIVATE: Final = 0o600
"""Faces are not for everybody."""

_WITHOUT_MODES = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_SPECIAL_BITS = 0o7000


def create(path: PurePath | str, mode: int = PRIVATE, *, within: int | None = None) -> int:
    """Make a file that was not there; return a descriptor to write to.

    Args:
        path: where.
        mode: who may read it, once it is there; at no moment may more.
        within: a descriptor of the folder that the path begins in.

    Raises:
        OSError: it is there, or cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, PRIVATE, dir_fd=within)
    try:
        _set(descriptor, mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def private(path: PurePath | str, flags: int) -> int:
    """Open a file that nobody else may read, if it has to be made; for `open(..., opener=private)`."""
    return os.open(path, flags, PRIVATE)


def make_folder(path: PurePath | str, mode: int = PRIVATE, *, within: int | None = None) -> None:
    """Make a folder, unless it is there: one that is keeps the mode that somebody has given it.

    Args:
        path: where.
        mode: of the files in it; whoever may read these may search it.
        within: a descriptor of the folder that the path begins in.

    Raises:
        OSError: it cannot be made.
    """
    try:
        os.mkdir(path, folder_mode(PRIVATE), dir_fd=within)
    except FileExistsError:
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=within)
    try:
        _set(descriptor, folder_mode(mode))
    finally:
        os.close(descriptor)


def make_folders(path: Path, mode: int = PRIVATE) -> None:
    """Make a folder and those above it that are missing; see `make_folder`."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            make_folder(folder, mode)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def folder_mode(mode: int) -> int:
    """Return the mode of a folder with files of a mode: to be searched by whoever may read them."""
    return mode | (mode & 0o444) >> 2


def _set(descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor).st_mode
    # A folder's group may be handed on to what lies in it (setgid): that stays so.
    wanted = mode | found & _SPECIAL_BITS
    if found & 0o7777 == wanted:
        return
    try:
        os.fchmod(descriptor, wanted)
    except OSError as error:
        # A file system without modes (FAT, some network disks) has one for all, said when it is mounted.
        if error.errno not in _WITHOUT_MODES:
            raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: what was made, linked, renamed or removed there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_url(path: str | Path) -> str:
    """Return the `file://` URL of a path, which is made absolute; ASCII, whatever the name is."""
    return f"file://{quote(os.fsencode(Path(path).absolute()))}"


def unquote_path(text: str) -> str:
    """Return the path that stands in a URL, as Python names files: what is not UTF-8 as lone surrogates."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
