"""Files: permissions independent of the umask, durable folders, paths as URLs."""

import errno
import os
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import quote, unquote_to_bytes

PRIVATE: Final = 0o600
"""Faces are for the owner of the files alone."""

_WITHOUT_MODES = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_SPECIAL_BITS = 0o7000


def create(path: PurePath | str, mode: int = PRIVATE, *, within: int | None = None) -> int:
    """Create a file; return a descriptor to write to, which the caller closes.

    Args:
        path: its path.
        mode: its permissions; at no moment has it more.
        within: a descriptor of the folder that a relative path starts from; None: the working directory.

    Raises:
        OSError: the file exists, or cannot be created.
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
    """Open a file; if it is created, only its owner may read it. For `open(..., opener=private)`."""
    return os.open(path, flags, PRIVATE)


def make_folder(path: PurePath | str, mode: int = PRIVATE, *, within: int | None = None) -> None:
    """Create a folder unless it exists; an existing one keeps its permissions.

    Args:
        path: its path.
        mode: the permissions of the files in it; their readers may search the folder.
        within: see `create`.

    Raises:
        OSError: it cannot be created.
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
    """Create a folder and its missing parents; see `make_folder`.

    Raises:
        OSError: one cannot be created, or the path is not a folder.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            make_folder(folder, mode)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def folder_mode(mode: int) -> int:
    """Return the permissions of a folder whose files have `mode`: their readers may search it."""
    return mode | (mode & 0o444) >> 2


def _set(descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor).st_mode
    # Special bits stay: with setgid new files inherit the folder's group.
    wanted = mode | found & _SPECIAL_BITS
    if found & 0o7777 == wanted:
        return
    try:
        os.fchmod(descriptor, wanted)
    except OSError as error:
        # A file system without permissions (FAT, some network disks) has one mode for all, set at mount.
        if error.errno not in _WITHOUT_MODES:
            raise


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: what was created, linked, renamed or removed there.

    Raises:
        OSError: the folder cannot be opened or synchronised.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_url(path: str | Path) -> str:
    """Return the `file://` URL of a path, which is made absolute; always ASCII."""
    return f"file://{quote(os.fsencode(Path(path).absolute()))}"


def unquote_path(text: str) -> str:
    """Return the path in a URL as Python names files: bytes that are not UTF-8 become lone surrogates."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
