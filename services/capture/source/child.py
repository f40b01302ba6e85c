"""Child processes: a camera's program, which cannot outlive this one, and programs that answer and end."""

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
"""How long a program may take to end after SIGTERM, in seconds; nvarguscamerasrc has to tell its driver."""


class CameraUnavailable(FaceferryError):
    """A camera cannot be read: its program, its address or its device cannot be used; says why."""


class Child:
    """A running program.

    Attributes:
        output: its standard output.
        errors: its standard error.
    """

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
        """End the whole process group: SIGTERM, and after `GRACE_S` SIGKILL."""
        try:
            if self._process.returncode is None:
                # A program that is stuck in a write to a full pipe does not act on the signal.
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
        environment: variables to set beside those of this process; None: to remove.

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
    """Return the words that have the kernel kill the child when this process is killed."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return this process's environment with changes, without Faceferry's and AWS's: they hold secrets."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FACEFERRY_", "AWS_"))}
    return {name: value for name, value in {**ours, **changes}.items() if value is not None}


_CHUNK_BYTES = 16 * 1024
_MAX_LINE_BYTES = 64 * 1024


async def listen(
    child: Child, on_output: Callable[[str], None], on_error: Callable[[str], None], silence_s: float
) -> None:
    """Read a program's standard output and standard error to their ends, both at once.

    Read one after the other, a program that has filled the second pipe would wait for ever.

    Args:
        child: the program.
        on_output: gets each line of its standard output.
        on_error: gets each line of its standard error.
        silence_s: how long it may take to the first line of its output, and from one to the next, in seconds.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(silence_s) as patience, asyncio.TaskGroup() as tasks:
        tasks.create_task(_hand_on(child.errors, on_error, lambda: None))
        await _hand_on(child.output, on_output, lambda: patience.reschedule(loop.time() + silence_s))


async def _hand_on(pipe: Pipe, take: Callable[[str], None], note_life: Callable[[], None]) -> None:
    """Hand on each line; of one that is too long, its last `_MAX_LINE_BYTES`."""
    chunk, rest = bytearray(_CHUNK_BYTES), b""
    while count := await pipe.read_into(memoryview(chunk)):
        *lines, rest = (rest + chunk[:count]).split(b"\n")
        for line in lines:
            take(line.decode(errors="replace"))
        rest = rest[-_MAX_LINE_BYTES:]
        note_life()
        # A program that never stops writing must not keep the other tasks from their turn.
        await asyncio.sleep(0)
    if rest:
        take(rest.decode(errors="replace"))


MAX_ANSWER_BYTES = 256 * 1024
"""`ffmpeg -filters` prints 50 KB."""

_ANSWER_CHUNK_BYTES = 64 * 1024


class AskFailed(Exception):
    """A program does not answer; the message says why, and is to follow the program's name."""


def ask(argv: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """Run a program and return its exit status and what it wrote to either of its outputs.

    It and all that it started are gone when this returns. Blocks: not for the event loop.

    Raises:
        AskFailed: it cannot be started, does not end within `timeout_s` seconds, or prints too much.
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
