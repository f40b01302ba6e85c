"""Kills all processes of a run when the run ends, whatever ends it."""

import asyncio
import contextlib
import os
import secrets
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping

from services.up import sweep

RESTART_PAUSE_S = 0.5


@contextlib.asynccontextmanager
async def guarded_processes() -> AsyncIterator[str]:
    """Mark all processes that are started within the context, and kill them when this process ends.

    That holds for every end, SIGKILL included: another process waits for it and kills those with the mark.
    Yields the mark.
    """
    mark, unmarked = new_mark(), dict(os.environ)
    watcher = await _watch(mark, unmarked)
    watching = asyncio.create_task(_keep_watching(watcher, mark, unmarked), name="up.process_guard")
    os.environ |= marked(unmarked, mark)
    try:
        yield mark
    finally:
        del os.environ[sweep.MARK]
        os.environ |= unmarked
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def new_mark() -> str:
    """Return a new, unique mark."""
    return secrets.token_hex(16)


def marked(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """Return an environment with a mark added; a run within a run has both marks."""
    return {**environment, sweep.MARK: f"{environment.get(sweep.MARK, '')}:{mark}"}


async def _keep_watching(watcher: Process, mark: str, environment: Mapping[str, str]) -> None:
    while True:
        try:
            await watcher.wait()
        finally:
            assert watcher.stdin is not None
            watcher.stdin.close()
            await watcher.wait()
        await asyncio.sleep(RESTART_PAUSE_S)
        watcher = await _watch(mark, environment)


async def _watch(mark: str, environment: Mapping[str, str]) -> Process:
    # In its own session, so that neither a terminal nor a signal to our group reaches it. Without our output,
    # whose reader would else wait for its end.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", sweep.__file__, mark),
        env=environment,
        stdin=PIPE,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
