"""A camera's program as a child process that cannot be left behind, and programs that are asked something."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType

from services.capture.source.pipe import Pipe
from services.common.errors import FaceferryError

GRACE_S = 1.0
"""A camera's driver may want to be told before its program ends (nvarguscamerasrc does)."""


class CameraUnavailable(FaceferryError):
    """A camera's program cannot be started, or has nothing more to say."""


class Child:
    """A running program: what it writes, what it says, and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process, output: Pipe, errors: Pipe) -> None:
        self._process = process
        self.output = output
        self.errors = errors

    @property
    def pid(self) -> int:
        """The process id, and that of its group."""
        return self._process.pid

    async def ended(self, grace_s: float) -> int | None:
        """Return the exit status (negative: the signal), or None if it does not end in time."""
        # Not `wait_for`, which in Python 3.11 forgets a cancellation that comes just as the program ends.
        try:
            async with asyncio.timeout(grace_s):
                return await self._process.wait()
        except TimeoutError:
            return None

    async def stop(self) -> None:
        """End the whole group: politely, and then not."""
        try:
            if self._process.returncode is None:
                # A program that is stuck in a write to a full pipe would not hear the signal.
                self.output.close()
                self._signal(signal.SIGTERM)
                self._signal(signal.SIGCONT)
                await self.ended(GRACE_S)
        finally:
            self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # The group's number stays taken for as long as any of its members lives, or its leader is not reaped.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@contextlib.asynccontextmanager
async def run_child(
    argv: Sequence[str], environment: Mapping[str, str | None] = MappingProxyType({})
) -> AsyncIterator[Child]:
    """Run a program in a process group of its own; when the context ends, so does the whole group.

    Args:
        argv: its command line.
        environment: what it has beside what this process has, or, where it says nothing, has not.

    Raises:
        CameraUnavailable: it cannot be started.
    """
    output, errors = Pipe(), Pipe()
    try:
        child = Child(await _start(argv, environment, output, errors), output, errors)
        try:
            yield child
        finally:
            await child.stop()
    finally:
        output.close()
        errors.close()


async def _start(
    argv: Sequence[str], environment: Mapping[str, str | None], output: Pipe, errors: Pipe
) -> asyncio.subprocess.Process:
    if shutil.which(argv[0]) is None:
        raise CameraUnavailable(f"the program {argv[0]!r} is not installed")
    try:
        process = await asyncio.create_subprocess_exec(
            *_bound_to_us(),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.write,
            stderr=errors.write,
            start_new_session=True,
            env=_environment(environment),
        )
    except OSError as error:
        raise CameraUnavailable(f"{argv[0]} cannot be started: {error}") from error
    output.close_write()
    errors.close_write()
    return process


def _bound_to_us() -> list[str]:
    """Return what lets the kernel kill the child when this process is killed and can do nothing any more."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return this process's environment without its secrets, which are no business of a camera's program."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FACEFERRY_", "AWS_"))}
    return {name: value for name, value in {**ours, **changes}.items() if value is not None}


_CHUNK_BYTES = 16 * 1024
_MAX_LINE_BYTES = 64 * 1024


async def listen(
    child: Child, on_output: Callable[[str], None], on_error: Callable[[str], None], silence_s: float
) -> None:
    """Read what a program writes and what it says, to the end of both, and both at once.

    To read the one to its end and then the other lets a program wait for ever that has filled the other's
    pipe.

    Args:
        child: the program.
        on_output: gets each line of its standard output.
        on_error: gets each line of its standard error.
        silence_s: how long it may take from one line of its output to the next, or to the first.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(silence_s) as patience, asyncio.TaskGroup() as tasks:
        tasks.create_task(_hand_on(child.errors, on_error, lambda: None))
        await _hand_on(child.output, on_output, lambda: patience.reschedule(loop.time() + silence_s))


async def _hand_on(pipe: Pipe, take: Callable[[str], None], note_life: Callable[[], None]) -> None:
    """Hand on each line that comes; of a line without an end, the end."""
    chunk, rest = bytearray(_CHUNK_BYTES), b""
    while count := await pipe.read_into(memoryview(chunk)):
        *lines, rest = (rest + chunk[:count]).split(b"\n")
        for line in lines:
            take(line.decode(errors="replace"))
        rest = rest[-_MAX_LINE_BYTES:]
        note_life()
        # One that never stops talking must not keep everybody else from their turn.
        await asyncio.sleep(0)
    if rest:
        take(rest.decode(errors="replace"))


MAX_ANSWER_BYTES = 256 * 1024
"""`ffmpeg -filters` says 50 KB."""

_ANSWER_CHUNK_BYTES = 64 * 1024


class AskFailed(Exception):
    """A program cannot be asked; the message says why, to follow its name."""


def ask(argv: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """Run a program and return its exit status and what it wrote to either of its outputs.

    It and all that it started are gone when this returns. Blocks: not for the event loop.

    Raises:
        NoAnswer: it cannot be started, does not end in time, or says too much.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        program = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise AskFailed(f"cannot be started: {error.strerror}") from error
    with program:
        try:
            said = _read(program, deadline_s)
            status = program.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AskFailed(f"does not answer within {timeout_s:g} s") from None
        finally:
            # A wrapper's own child would hold the pipe open and go on.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, signal.SIGKILL)
    return status, said.decode(errors="replace")


def _read(program: "subprocess.Popen[bytes]", deadline_s: float) -> bytes:
    assert program.stdout is not None
    pipe = program.stdout.fileno()
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    said = b""
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not waiting.poll(left_s * 1000):
            raise subprocess.TimeoutExpired(program.args, 0)
        if not (chunk := os.read(pipe, _ANSWER_CHUNK_BYTES)):
            return said
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise AskFailed("does not stop talking")
