"""Lists a folder of files name by name, and removes files from it.

Memory grows with what is wanted, not with the folder: a file system has no order and cannot begin in the
middle, so all names are read once. That is done in Python loops, in a thread: one call that reads or sorts a
hundred thousand names would block every other thread.
"""

import errno
import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from services.common.storage import files
from services.common.storage.objects import Copy, ListedObject


def names(folder: Path, after: str = "", before: str = "") -> Iterator[str]:
    """Yield the names of the objects in a folder between two names, in any order.

    Args:
        folder: need not be there.
        after: only names greater than this.
        before: only names less than this; `""` for no bound.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for each in found:
            name = each.name
            if after < name and (not before or name < before) and not name.endswith(".json"):
                yield name


def first(folder: Path, count: int, after: str, before: str) -> list[str]:
    """Return the first `count` names between two names, sorted; see `names`."""
    return heapq.nsmallest(count, names(folder, after, before))


def last(folder: Path, count: int, before: str) -> list[str]:
    """Return the last `count` names before a name, sorted."""
    return heapq.nlargest(count, names(folder, before=before))[::-1]


def folders(folder: Path, most: int, after: str) -> list[str]:
    """Return the first `most` names of folders in a folder after a name, sorted.

    Args:
        folder: need not be there.
        most: how many, at most.
        after: only names greater than this; `""` for no bound.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        names = (
            each.name
            for each in found
            if each.name > after and not each.name.startswith(".") and each.is_dir()
        )
        return heapq.nsmallest(most, names)
    return []


def sized(root: Path, folder: str, found: list[str]) -> list[ListedObject]:
    """Return names with their sizes in bytes; 0 for one removed meanwhile: fewer would mean the end."""
    return [ListedObject(f"{folder}/{name}", _size_bytes(root / folder / name)) for name in found]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_REFUSED = {errno.EACCES: "forbidden", errno.EPERM: "forbidden", errno.EROFS: "read_only"}


def copies(root: Path, folder: str) -> Iterator[Copy]:
    """Yield the files under a folder, each with the time when it was written.

    Args:
        root: the store's.
        folder: need not be there.
    """
    for where, _folders, names in os.walk(root / folder):
        for name in names:
            path = Path(where, name)
            with suppress(FileNotFoundError):
                # The modification time is the frame's; the change time is when the file was written.
                came = datetime.fromtimestamp(path.stat().st_ctime, UTC)
                yield Copy(path.relative_to(root).as_posix(), came)


def remove(root: int, wanted: Sequence[Copy]) -> Mapping[Copy, str]:
    """Remove files durably, and folders that become empty; return those that must stay.

    Args:
        root: a descriptor of the store's folder.
        wanted: the files; those that are gone already are skipped.

    Raises:
        OSError: the file system failed in another way.
    """
    refused: dict[Copy, str] = {}
    folders: set[str] = set()
    for copy in wanted:
        try:
            os.unlink(copy.key, dir_fd=root)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            refused[copy] = _REFUSED[error.errno]
            continue
        folders.add(str(PurePosixPath(copy.key).parent))
    for folder in folders:
        _tidy(root, PurePosixPath(folder))
    return refused


def _tidy(root: int, folder: PurePosixPath) -> None:
    """Make removals from a folder durable, and remove it and those above it where they are empty."""
    for path in (folder, *folder.parents):
        with suppress(FileNotFoundError):
            files.sync_names(root, str(path))
        if path == PurePosixPath():
            return
        try:
            os.rmdir(path, dir_fd=root)
        except OSError:  # something is left in it, or came meanwhile
            return
