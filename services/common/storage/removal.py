"""Files of faces that are to go, below a store's folder."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from services.common.storage import files
from services.common.storage.objects import Copy

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
