"""Runs a camera's program to its end, hands on its pictures, and keeps the end of its standard error."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.capture.metrics import Tally
from services.capture.source.child import GRACE_S, run_child
from services.capture.source.facts import Command, make_reader
from services.capture.source.pipe import Pipe, PipeReader, Timeouts
from services.capture.source.redaction import redact, shown
from services.capture.stream.picture import OnPicture

_CHUNK_BYTES = 4096
MAX_LINES = 8
MAX_LINE_CHARACTERS = 300

_MOST_REST_BYTES = 4 * MAX_LINE_CHARACTERS

# ffmpeg's memory addresses are different each time, and would make each line a new one.
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
# ffmpeg's `-loglevel level+info` marks each line; information does not explain an end.
_STREAM = re.compile(r"Stream #0:\d+.*Video: .*?\b(\d{2,5}x\d{2,5})\b")
_CHANGED = re.compile(r"Reconfiguring filter graph because video parameters changed.*?\b(\d{2,5}x\d{2,5})\b")
_INFORMATION = re.compile(r"\[info\]|^\s|^$")


class SizeChange:
    """Notices when ffmpeg (7.1 and later) says that a camera's pictures have another size now.

    From then on ffmpeg would scale the pictures to the old shape. Other parameters may change.
    """

    def __init__(self) -> None:
        self._size = ""

    def is_told_by(self, line: str) -> bool:
        """Say whether a line of ffmpeg's tells of a size other than the one before."""
        found = (_CHANGED if self._size else _STREAM).search(line) or _CHANGED.search(line)
        if found is None or found[1] == self._size:
            return False
        is_change, self._size = bool(self._size), found[1]
        return is_change


class StderrTail:
    """Keeps the end of what a program says on standard error.

    Args:
        url: the camera's address, whose secrets are redacted in each line.
        relay_url: the address that the program was given instead; new at each start, so it is replaced, too.
    """

    def __init__(self, url: str = "", relay_url: str = "") -> None:
        self._url = url
        self._relay_url = relay_url
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        """Take bytes; return the lines that they complete, redacted."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + data)
        if len(rest) > _MOST_REST_BYTES:
            # The end of an address that is cut in two could not be recognised, and would not be redacted.
            rest = rest[-_MOST_REST_BYTES:].partition(b" ")[2]
        self._rest = rest
        complete = [self._clean(line) for line in lines]
        self._lines.extend(line for line in complete if not _INFORMATION.search(line))
        return complete

    def __str__(self) -> str:
        last = self._clean(self._rest)
        return " | ".join([*self._lines, *([last] if last and not _INFORMATION.search(last) else [])])

    def _clean(self, line: bytes) -> str:
        text = line.decode(errors="replace")
        if self._relay_url:
            text = text.replace(self._relay_url, shown(self._url))
        text = redact(text, self._url)
        return _ADDRESS.sub("", text)[:MAX_LINE_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a camera's program came to its end.

    Attributes:
        reason: `exited`, `silent` (no first frame in time), `stalled` (none after others), `broken` (its
            output cannot be read), `changed` (the pictures' size did), `busy` (another has the device),
            `lost` (a topic's broker was) or `unavailable` (it could not be started or reached).
        status: its exit status, if it ended by itself.
        pictures: how many it delivered.
        message: the last that it wrote to standard error, redacted, or why there is no program.
    """

    reason: str
    status: int | None
    pictures: int
    message: str


async def watch(
    command: Command,
    on_picture: OnPicture,
    *,
    timeouts: Timeouts,
    tally: Tally,
    url: str = "",
    relay_url: str = "",
    may_change: bool = False,
) -> Ending:
    """Run a camera's program until it ends, falls silent or writes rubbish; it is gone when this returns.

    Args:
        command: the program.
        on_picture: gets each picture. While it waits, or says that nothing is worth reading, nothing is read
            and no timeout runs.
        timeouts: how long to wait for pictures.
        tally: counts what is skipped.
        url: the camera's address, whose secrets must not be in the message.
        relay_url: the address that the program is given instead.
        may_change: whether to go on when the pictures' size changes, because a recording would start over.

    Raises:
        CameraUnavailable: it cannot be started.
    """
    tail = StderrTail(url, relay_url)
    async with run_child(command.argv, command.environment) as child, asyncio.TaskGroup() as tasks:
        pictures = PipeReader(child.output, make_reader(command.output_format), on_picture, timeouts, tally)
        on_change = _ignore if may_change else pictures.size_changed
        listener = tasks.create_task(_listen(child.errors, tail, on_change))
        try:
            reason = await pictures.run()
            status = await child.ended(GRACE_S) if reason == "exited" else None
            if status is not None:
                await asyncio.wait([listener], timeout=GRACE_S)
        finally:
            listener.cancel()
    return Ending(reason, status, pictures.count, _message(tail, pictures.problem))


def _message(tail: StderrTail, problem: str) -> str:
    """Return the end of a program's standard error, and what was wrong with its output."""
    return " | ".join(part for part in (str(tail), problem) if part)


async def _listen(errors: Pipe, tail: StderrTail, on_change: Callable[[], None]) -> None:
    chunk = bytearray(_CHUNK_BYTES)
    size = SizeChange()
    while count := await errors.read_into(memoryview(chunk)):
        for line in tail.add(bytes(chunk[:count])):
            if size.is_told_by(line):
                on_change()
        # A program that never stops writing must not keep the other cameras from their turn.
        await asyncio.sleep(0)


def _ignore() -> None:
    """Go on: ffmpeg scales the pictures to the size that it began with."""
