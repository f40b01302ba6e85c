"""A camera's program as a child process that cannot be left behind."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from services.common.errors import FaceferryError

PIPE_BYTES = 1024 * 1024
GRACE_S = 1.0
"""A camera's driver may want to be told before its program ends (nvarguscamerasrc does)."""


class CameraUnavailable(FaceferryError):
    """A camera's program cannot be started, or has nothing more to say."""


class Pipe:
    """The reading end of a pipe, read without blocking and without copying."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        # The system may allow less to a user with many pipes; then it is slower, no more.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        return fcntl.fcntl(self._read, fcntl.F_GETPIPE_SZ)

    def read_now(self, view: "memoryview[Any]") -> int | None:
        """Fill `view` with what is there; return how many bytes: 0 at the end, nothing if none yet."""
        try:
            return os.readv(self._read, [view])
        except BlockingIOError:
            return None

    async def readable(self) -> None:
        """Wait until there is something to read, or the end."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._read, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._read)

    async def read_into(self, view: "memoryview[Any]") -> int:
        """Fill `view` as soon as there is something; return how many bytes, 0 at the end."""
        while (count := self.read_now(view)) is None:
            await self.readable()
        return count

    def close_write(self) -> None:
        """Leave the writing end to the child alone, so that its end is the pipe's end."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        """Close both ends, once."""
        self.close_write()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1


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
        """Return the exit status (negative: the signal), or nothing if it does not end in time."""
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
