"""Runs a service: signals, the event loop, and exit statuses."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
import uvloop

from services.common.errors import SetupError
from services.common.runtime import variables

EXIT_CRASHED = 1
EXIT_SETUP = 2
EXIT_STOPPED = 130

log = structlog.get_logger()

T = TypeVar("T")


def run(service: Coroutine[Any, Any, None]) -> int:
    """Run a service until it ends, crashes or is stopped; return the exit status.

    Any error that a service raises ends it here and is logged with its traceback; the supervisor restarts it.
    First, variables that no service reads are logged: they are probably misspelt.
    """
    for line in variables.unknown(os.environ).values():
        log.warning("settings.unknown_variable", problem=line)
    try:
        run_until_stopped(service)
    except Exception as error:  # the one place where anything may arrive
        if (problem := setup_error_in(error)) is not None:
            log.error("service.cannot_start", problem=str(problem))  # noqa: TRY400 - one clear line, no trace
            return EXIT_SETUP
        log.exception("service.crashed")
        return EXIT_CRASHED
    return 0


def run_until_stopped(main: Coroutine[Any, Any, T]) -> T | None:
    """Run a coroutine to its end and return its result, or None if a signal stopped it.

    The first SIGTERM, SIGINT or, unless it is ignored (`nohup`), SIGHUP cancels it, so that it can clean up.
    A second signal ends the process at once.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_stopped(main))


def setup_error_in(error: BaseException) -> SetupError | None:
    """Return the setup error that an error is, or that is in a group of errors; else None."""
    if isinstance(error, SetupError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := setup_error_in(inner))), None)
    return None


async def _until_stopped(main: Coroutine[Any, Any, T]) -> T | None:
    task = asyncio.create_task(main, name="main")
    was_told = False

    def stop(number: int) -> None:
        nonlocal was_told
        if was_told:
            os._exit(EXIT_STOPPED)
        was_told = True
        log.info("service.stopping", signal=signal.Signals(number).name)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not was_told:
            raise
    return None
