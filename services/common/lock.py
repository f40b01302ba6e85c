import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import structlog

from services.common.errors import SetupError

POLL_S = 0.5

log = structlog.get_logger()


@asynccontextmanager
async def hold(folder: Path, what: str) -> AsyncIterator[None]:
    """Hold a folder alone; wait while another process does, as its standby.

    The kernel lets go of the lock when the process ends, however it ends.

    Args:
        folder: it must exist.
        what: is held with it, for the log: `spool` makes `spool.standing_by`.

    Raises:
        SetupError: the folder is not there, or cannot be written.
    """
    with _opened(folder / "lock") as file:
        event, was_told = f"{what}.standing_by", False
        while not _try(file.fileno()):
            if not was_told:
                log.info(event, folder=str(folder))
                was_told = True
            await asyncio.sleep(POLL_S)
        yield


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("ab")
    except OSError as error:
        raise SetupError(f"the lock cannot be opened: {error}") from error


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
