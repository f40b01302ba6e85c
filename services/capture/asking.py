"""Asks a program something, and is neither held up nor flooded by it."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence

MAX_ANSWER_BYTES = 256 * 1024
"""`ffmpeg -filters` says 50 KB."""

_CHUNK_BYTES = 64 * 1024


class NoAnswer(Exception):
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
        raise NoAnswer(f"cannot be started: {error.strerror}") from error
    with program:
        try:
            said = _read(program, deadline_s)
            status = program.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"does not answer within {timeout_s:g} s") from None
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
        if not (chunk := os.read(pipe, _CHUNK_BYTES)):
            return said
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise NoAnswer("does not stop talking")
