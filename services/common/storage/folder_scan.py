"""What lies in one folder of files, read name by name, and how what is to go goes from there.

Memory grows with what is wanted, not with the folder: a file system knows no order and no middle to begin at,
so all names pass by once. They do so in Python's own loops, in a thread: one call that reads or sorts a
hundred thousand would hold up every other thread.
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
    """Yield the names of the objects in a folder that lie between two names, in no order.

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
    """Return the first `count` of those names, in order."""
    return heapq.nsmallest(count, names(folder, after, before))


def last(folder: Path, count: int, before: str) -> list[str]:
    """Return the last `count` names before one, in order."""
    return heapq.nlargest(count, names(folder, before=before))[::-1]


def folders(folder: Path, most: int, after: str) -> list[str]:
    """Return the first `most` names of folders in a folder that are greater than one, in order.

    Args:
        folder: need not be there.
        most: at most so many.
        after: `""` for no bound.
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
    """Return names with their sizes; 0 for what is gone meanwhile, for less would look like the end."""
    return [ListedObject(f"{folder}/{name}", _size_bytes(root / folder / name)) for name in found]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_REFUSED = {errno.EACCES: "forbidden", errno.EPERM: "forbidden", errno.EROFS: "read_only"}


def copies(root: Path, folder: str) -> Iterator[Copy]:
    """Yield the files under a folder, each with when it was written.

    Args:
        root: the store's.
        folder: need not be there.
    """
    for where, _folders, names in os.walk(root / folder):
        for name in names:
            path = Path(where, name)
            with suppress(FileNotFoundError):
                # Its own time is that of its frame; since when it lies here the file system alone knows.
                came = datetime.fromtimestamp(path.stat().st_ctime, UTC)
                yield Copy(path.relative_to(root).as_posix(), came)


def remove(root: int, wanted: Sequence[Copy]) -> Mapping[Copy, str]:
    """Remove files and folders that are empty then, durably; return what may not be removed, and why.

    Args:
        root: a descriptor of the store's folder.
        wanted: what is to go; what is gone already is left out.
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
    """Make what went from a folder durable, and remove it and those above it that are empty."""
    for path in (folder, *folder.parents):
        with suppress(FileNotFoundError):
            files.sync_names(root, str(path))
        if path == PurePosixPath():
            return
        try:
            os.rmdir(path, dir_fd=root)
        except OSError:  # something is left in it, or came meanwhile
            return
