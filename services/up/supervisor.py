"""Keeps child processes running, and passes on what they say."""

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
from services.up.leash import marked, new_mark

STOP_TIMEOUT_S = 5.0
STEADY_S = 5.0
LAST_WORDS_S = 1.0
MAX_LINE_BYTES = 256 * 1024

Sink = Callable[[str, str], None]
"""Takes a child's name and a line it has written."""


@dataclass(frozen=True, slots=True)
class Program:
    """A child to keep running.

    Attributes:
        name: how it is called in what a person reads.
        arguments: the command line.
        environment: all of it.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)


@contextlib.asynccontextmanager
async def running(programs: Sequence[Program], sink: Sink) -> AsyncIterator[None]:
    """Run programs for as long as the context lasts: started in order, stopped in reverse.

    One that dies is started again, after a short and growing wait. One that ends with status 2 cannot be
    helped by that.

    Raises:
        SetupError: a program ended with status 2; what it said last.
        BaseExceptionGroup: that, or what the body raised, grouped by the tasks.
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


async def _keep(program: Program, sink: Sink, is_started: asyncio.Event) -> None:
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


async def _run(program: Program, sink: Sink, is_started: asyncio.Event) -> tuple[int, str]:
    """Run a program to its end; return its status and last line. Stop it when cancelled."""
    mark = new_mark()
    process = await asyncio.create_subprocess_exec(
        *_bound_to_us(program.arguments),
        env=marked(program.environment, mark),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C in a terminal goes to the whole group; ours are stopped in order, by us.
        start_new_session=True,
        limit=MAX_LINE_BYTES,
    )
    is_started.set()
    assert process.stdout is not None
    said = _Said(program.name, sink)
    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(said.listen(process.stdout), name=f"up.{program.name}.output")
            # Its end, not that of its output, which a child that it has left behind may hold open.
            status = await process.wait()
            await asyncio.to_thread(sweep.end, mark)
            await asyncio.wait([listening], timeout=LAST_WORDS_S)
            listening.cancel()
        return status, said.last
    finally:
        await asyncio.shield(_end(process, mark))


class _Said:
    """Passes on what a program says, and keeps the last line."""

    def __init__(self, name: str, sink: Sink) -> None:
        self.last = ""
        self._name = name
        self._sink = sink

    async def listen(self, output: asyncio.StreamReader) -> None:
        async for line in _lines(output):
            self.last = line
            self._sink(self._name, line)


async def _end(process: asyncio.subprocess.Process, mark: str) -> None:
    """Stop a program, and what it has left behind: a camera's program would keep the camera from the next."""
    if process.returncode is None:
        await _stop(process)
    await asyncio.to_thread(sweep.end, mark)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a stopped process would not hear it
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
        except ValueError:  # longer than the limit: the reader has dropped it
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


def _bound_to_us(arguments: Sequence[str]) -> Sequence[str]:
    """Return a command line whose process the kernel ends if we die without a word."""
    setpriv = shutil.which("setpriv")
    return arguments if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--", *arguments)


def inherited() -> dict[str, str]:
    """Return the environment that children start from."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
