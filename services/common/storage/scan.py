"""What lies in one folder of files, read name by name: memory grows with what is wanted, not with the folder.

A file system knows no order and no middle to begin at, so all names pass by once. They do so in Python's own
loops, in a thread: one call that reads or sorts a hundred thousand would hold up every other thread.
"""

import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from services.common.storage.objects import Entry


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


def sized(root: Path, folder: str, found: list[str]) -> list[Entry]:
    """Return names with their sizes; 0 for what is gone meanwhile, for less would look like the end."""
    return [Entry(f"{folder}/{name}", _size_bytes(root / folder / name)) for name in found]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
