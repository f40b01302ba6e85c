"""Keeps child processes running, and passes on their output."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.common.errors import SetupError
from services.common.runtime.concurrency import Backoff
from services.up import sweep
from services.up.console import problem_of
from services.up.process_guard import marked, new_mark

STOP_TIMEOUT_S = 5.0
STEADY_S = 5.0
LAST_WORDS_S = 1.0
MAX_LINE_BYTES = 256 * 1024

Sink = Callable[[str, str], None]
"""Is called with a child's name and a line of its output."""


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """A program to keep running as a child process.

    Attributes:
        name: its name in the output.
        arguments: the command line.
        environment: its whole environment.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)


@contextlib.asynccontextmanager
async def running(programs: Sequence[ChildProgram], sink: Sink) -> AsyncIterator[None]:
    """Run programs for as long as the context lasts: started in order, stopped in reverse.

    One that dies is started again, after a short and growing wait, unless its status is 2.

    Raises:
        SetupError: a program ended with status 2; the message is its last line.
        BaseExceptionGroup: that, or the errors of the body, grouped by the tasks.
    """
    async with asyncio.TaskGroup() as tasks:
        keepers = []
        for program in programs:
            is_started = asyncio.Event()
            keepers.append(tasks.create_task(_keep(program, sink, is_started), name=f"up.{program.name}"))
            await is_started.wait()
        try:
            yield
        finally:
            for keeper in reversed(keepers):
                keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError, SetupError):
                    await keeper


async def _keep(program: ChildProgram, sink: Sink, is_started: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    backoff = Backoff(0.2, 5.0)
    while True:
        began_s = loop.time()
        status, last_line = await _run(program, sink, is_started)
        if status == 2:
            raise SetupError(problem_of(last_line) or f"{program.name} cannot start")
        if loop.time() - began_s > STEADY_S:
            backoff.reset()
        wait_s = backoff.next_s()
        sink("up", f"{program.name} ended with status {status}; started again in {wait_s:.1f} s")
        await asyncio.sleep(wait_s)


async def _run(program: ChildProgram, sink: Sink, is_started: asyncio.Event) -> tuple[int, str]:
    """Run a program to its end; return its status and last line. Cancelling stops it."""
    mark = new_mark()
    process = await asyncio.create_subprocess_exec(
        *_bound_to_us(program.arguments),
        env=marked(program.environment, mark),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C in a terminal signals the whole group; children are stopped in order, by us.
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )
    is_started.set()
    assert process.stdout is not None
    said = _Said(program.name, sink)
    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(said.listen(process.stdout), name=f"up.{program.name}.output")
            # Wait for its end, not for that of its output, which a child of its own may hold open.
            status = await process.wait()
            await asyncio.to_thread(sweep.end, mark)
            await asyncio.wait([listening], timeout=LAST_WORDS_S)
            listening.cancel()
        return status, said.last
    finally:
        await asyncio.shield(_end(process, mark))


class _Said:
    """Passes on a program's output, and keeps the last line."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.last = ""
        self._name = name
        self._sink = sink

    async def listen(self, output: asyncio.StreamReader) -> None:
        async for line in _lines(output):
            self.last = line
            self._sink(self._name, line)


async def _end(process: asyncio.subprocess.Process, mark: str) -> None:
    """Stop a program and all its children: one that holds a camera would keep it from the next run."""
    if process.returncode is None:
        await _stop(process)
    await asyncio.to_thread(sweep.end, mark)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a stopped process does not handle signals
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the limit, and dropped by the reader
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


def _bound_to_us(arguments: Sequence[str]) -> Sequence[str]:
    """Return a command line whose process the kernel kills if this process dies."""
    setpriv = shutil.which("setpriv")
    return arguments if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--", *arguments)


def inherited() -> dict[str, str]:
    """Return the environment on which those of children are based."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
