import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

POLL_S = 0.5

log = structlog.get_logger()


@asynccontextmanager
async def hold(folder: Path) -> AsyncIterator[None]:
    """Hold a spool alone; wait while another process does, as its standby.

    The kernel lets go of the lock when the process ends, however it ends.
    """
    with (folder / "lock").open("ab") as file:
        was_told = False
        while not _try(file.fileno()):
            if not was_told:
                log.info("spool.standing_by", folder=str(folder))
                was_told = True
            await asyncio.sleep(POLL_S)
        yield


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
