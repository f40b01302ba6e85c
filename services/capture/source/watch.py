"""Watches a camera's program: what it delivers, how long it may be silent, and its last words."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.capture.metrics import Tally
from services.capture.source.child import GRACE_S, Child, Pipe, run_child
from services.capture.source.facts import Command, make_reader
from services.capture.source.redaction import redact, shown
from services.capture.stream.picture import OnPicture, Picture, PictureReader, StreamBroken

MAX_LINES = 8
MAX_LINE_CHARACTERS = 300

_MOST_REST_BYTES = 4 * MAX_LINE_CHARACTERS

# Where in its memory ffmpeg keeps what speaks is different each time, and would make each line news.
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
# ffmpeg's `-loglevel level+info` marks each line; what is only information says nothing about an end.
_STREAM = re.compile(r"Stream #0:\d+.*Video: .*?\b(\d{2,5}x\d{2,5})\b")
_CHANGED = re.compile(r"Reconfiguring filter graph because video parameters changed.*?\b(\d{2,5}x\d{2,5})\b")
_INFORMATION = re.compile(r"\[info\]|^\s|^$")


class SizeChange:
    """Notices when ffmpeg (7.1 and later) says that a camera's pictures have another size now.

    From there on ffmpeg would squeeze the pictures into the old shape. Other parameters may change.
    """

    def __init__(self) -> None:
        self._size = ""

    def is_told_by(self, line: str) -> bool:
        """Say whether a line tells of a size other than the one before."""
        found = (_CHANGED if self._size else _STREAM).search(line) or _CHANGED.search(line)
        if found is None or found[1] == self._size:
            return False
        is_change, self._size = bool(self._size), found[1]
        return is_change


class StderrTail:
    """Keeps the end of what a program says on standard error.

    Args:
        url: the camera's address: what opens it is not repeated, wherever it stands.
        relay_url: what the program was told in its place, and is new each time.
    """

    def __init__(self, url: str = "", relay_url: str = "") -> None:
        self._url = url
        self._relay_url = relay_url
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        """Take what came; return the lines it completes, redacted."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + data)
        if len(rest) > _MOST_REST_BYTES:
            # Of an address that is cut in two the end could not be told from anything else.
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


MOST_S = 0.2
LEAST_S = 0.01
"""Shorter rests save nothing."""
SHARE = 0.7
"""Of the pipe, that may fill up meanwhile: a program that cannot write cannot read its camera either, and
comes behind."""
WINDOW_S = 0.5
"""Over so long is measured how much comes."""


class ReadPauses:
    """Rests that a pipe can bear.

    To be woken for each piece of a picture that nobody looks at costs more than reading it, and a pipe holds
    several pictures.

    Args:
        pipe_bytes: how much the pipe holds.
    """

    def __init__(self, pipe_bytes: int) -> None:
        self._bearable_bytes = pipe_bytes * SHARE
        self._since_s: float | None = None
        self._bytes = 0
        self._bytes_a_s: float | None = None
        self._is_drained = False

    def note(self, count: int, now_s: float, *, is_drained: bool) -> None:
        """Take note that so many bytes were read, and whether that was all that there was."""
        self._is_drained = is_drained
        if self._since_s is None:
            self._since_s = now_s
            return
        self._bytes += count
        if (passed_s := now_s - self._since_s) >= WINDOW_S:
            self._bytes_a_s = self._bytes / passed_s
            self._since_s, self._bytes = now_s, 0

    def rest_s(self, idle_s: float) -> float:
        """Return how long to rest, in seconds, where nothing is worth reading for `idle_s`; 0: not at all.

        What was left in the pipe is read first, or it would fill up from rest to rest.
        """
        if not self._bytes_a_s or not self._is_drained:
            return 0.0
        rest_s = min(MOST_S, idle_s, self._bearable_bytes / self._bytes_a_s)
        return rest_s if rest_s >= LEAST_S else 0.0


_WORDS_CHUNK_BYTES = 4096
# ffmpeg writes 32 KiB at a time. To wake for each costs a quarter of what encoding does; the pipe holds more.
_GATHER_S = 0.001


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a program may take to its first frame, and from one to the next; in seconds."""

    start_timeout_s: float
    stall_timeout_s: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a camera's program came to its end.

    Attributes:
        reason: `exited`, `silent` (no first frame in time), `stalled` (none after others), `broken` (its
            output cannot be read), `changed` (the pictures' size did), `busy` (another has the device) or
            `lost` (a topic's broker was).
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
    """Run a camera's program until it ends, falls silent or makes no sense; it is gone when this returns.

    Args:
        command: the program.
        on_picture: gets each picture; while it waits nothing is read, and no silence is held against the
            program. Nor is it while nothing is worth reading, of which the pipe holds some.
        timeouts: how long to wait for pictures.
        tally: counts what is skipped.
        url: the camera's address, of which the last words must not tell what opens it.
        relay_url: what the program is told in its place.
        may_change: whether to go on when the pictures' size changes: a recording would only start over.

    Raises:
        CameraUnavailable: it cannot be started.
    """
    tail = StderrTail(url, relay_url)
    async with run_child(command.argv, command.environment) as child, asyncio.TaskGroup() as tasks:
        watcher = _Watcher(child, make_reader(command.output_format), on_picture, timeouts, tally)
        on_change = _ignore if may_change else watcher.size_changed
        listener = tasks.create_task(_listen(child.errors, tail, on_change))
        try:
            reason = await watcher.run()
            status = await child.ended(GRACE_S) if reason == "exited" else None
            if status is not None:
                await asyncio.wait([listener], timeout=GRACE_S)
        finally:
            listener.cancel()
    return Ending(reason, status, watcher.pictures, _message(tail, watcher.problem))


def _message(tail: StderrTail, problem: str) -> str:
    """Return what a program said last, and what was wrong with what it wrote."""
    return " | ".join(part for part in (str(tail), problem) if part)


class _Watcher:
    def __init__(
        self,
        child: Child,
        reader: PictureReader,
        on_picture: OnPicture,
        timeouts: Timeouts,
        tally: Tally,
    ) -> None:
        self.pictures = 0
        self.problem = ""
        self._output = child.output
        self._reader = reader
        self._on_picture = on_picture
        self._timeouts = timeouts
        self._tally = tally
        self._is_changed = False
        self._pause_s = 0.0
        self._doze = ReadPauses(child.output.size_bytes)
        self._idle_until_s = 0.0

    def size_changed(self) -> None:
        self._is_changed = True

    async def run(self) -> str:
        """Read until there is a reason to stop; return it."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeouts.start_timeout_s
        try:
            while count := await self._read(deadline_s):
                has_come = await self._hand_on(self._reader.received(count))
                if self._is_changed:
                    return "changed"
                await self._rest()
                if has_come:
                    deadline_s = loop.time() + self._timeouts.stall_timeout_s
                elif loop.time() > deadline_s:
                    return self._silence
            await self._hand_on(self._reader.ended())
        except TimeoutError:
            return self._silence
        except StreamBroken as error:
            self.problem = str(error)
            return "broken"
        return "exited"

    async def _hand_on(self, pictures: Sequence[Picture]) -> bool:
        """Hand on what has come; say whether anything has."""
        if self._reader.skipped:
            self._tally.skip(self._reader.skipped)
        for picture in pictures:
            self.pictures += 1
            idle_s = await self._on_picture(picture)
            self._idle_until_s = asyncio.get_running_loop().time() + idle_s
        return bool(pictures)

    async def _rest(self) -> None:
        """Leave in the pipe what is not worth reading, until something is or the pipe has enough."""
        if rest_s := self._doze.rest_s(self._idle_until_s - asyncio.get_running_loop().time()):
            await asyncio.sleep(rest_s)
            self._pause_s = 0.0  # enough has gathered

    @property
    def _silence(self) -> str:
        return "stalled" if self.pictures else "silent"

    async def _read(self, deadline_s: float) -> int:
        """Return how much more there is, 0 at the end; always lets the other cameras have a turn."""
        view = self._reader.buffer()
        if len(view) > _WORDS_CHUNK_BYTES:
            await asyncio.sleep(self._pause_s)
        if (count := self._output.read_now(view)) is None:
            async with asyncio.timeout_at(deadline_s):
                await self._output.readable()
                await asyncio.sleep(_GATHER_S)
                count = await self._output.read_into(view)
        is_drained = count < len(view)
        self._pause_s = _GATHER_S if is_drained else 0.0
        self._doze.note(count, asyncio.get_running_loop().time(), is_drained=is_drained)
        return count


async def _listen(errors: Pipe, tail: StderrTail, on_change: Callable[[], None]) -> None:
    chunk = bytearray(_WORDS_CHUNK_BYTES)
    size = SizeChange()
    while count := await errors.read_into(memoryview(chunk)):
        for line in tail.add(bytes(chunk[:count])):
            if size.is_told_by(line):
                on_change()
        # Nor may one that never stops talking.
        await asyncio.sleep(0)


def _ignore() -> None:
    """Go on: ffmpeg scales what comes to the size that it began with."""
