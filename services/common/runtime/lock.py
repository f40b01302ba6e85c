"""Exclusive use of a folder or a file by one process, with the kernel's locks."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from services.common.errors import SetupError

POLL_S = 0.5

log = structlog.get_logger()


@asynccontextmanager
async def hold(folder: Path, what: str) -> AsyncIterator[None]:
    """Lock a folder for as long as the context lasts; wait as a standby while another process holds the lock.

    The folder itself is locked, not a file in it: if that were deleted, the next process would create another
    one and lock that too. The kernel releases the lock when the process ends, in whatever way.

    Args:
        folder: an existing folder.
        what: the folder's name in the log: `spool` makes `spool.standing_by`.

    Raises:
        SetupError: the folder does not exist, or its file system has no locks.
    """
    event, was_told = f"{what}.standing_by", False
    while True:
        with try_hold(folder) as is_ours:
            if is_ours:
                yield
                return
        if not was_told:
            log.info(event, folder=str(folder))
            was_told = True
        await asyncio.sleep(POLL_S)


@contextmanager
def alone(path: Path, problem: str) -> Iterator[None]:
    """Hold a file or a folder alone for as long as the context lasts; do not wait.

    Args:
        path: it must exist.
        problem: the message where another process holds it.

    Raises:
        SetupError: another process holds it, it is not there, or its file system has no locks.
    """
    with try_hold(path) as is_ours:
        if not is_ours:
            raise SetupError(problem)
        yield


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Try to hold a file or a folder alone for as long as the context lasts; yield whether it is ours.

    Raises:
        SetupError: the path does not exist, or its file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise SetupError(f"the lock cannot be opened: {error}") from error
    try:
        yield _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SetupError(f"{path} cannot be locked, as on some network disks: {error.strerror}") from error
    return True
