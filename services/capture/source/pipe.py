"""Reads pictures out of the pipe that a camera's program writes to."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.capture.metrics import Tally
from services.capture.stream.picture import OnPicture, Picture, PictureReader, StreamBroken

PIPE_BYTES = 1024 * 1024

_SMALL_BYTES = 4096
# ffmpeg writes 32 KiB at a time. To wake for each costs a quarter of what encoding does; the pipe holds more.
_GATHER_S = 0.001


class Pipe:
    """A pipe for a child process, read without blocking and without copying.

    Attributes:
        write: the writing end, for the child; -1 once it is closed here.
    """

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        # The system may allow less to a user with many pipes; then reading is slower.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def size_bytes(self) -> int:
        """How many bytes it holds."""
        return fcntl.fcntl(self._read, fcntl.F_GETPIPE_SZ)

    def read_now(self, view: "memoryview[Any]") -> int | None:
        """Read into `view` without waiting; return how many bytes: 0 at the end, None if none yet."""
        try:
            return os.readv(self._read, [view])
        except BlockingIOError:
            return None

    async def readable(self) -> None:
        """Wait until there is something to read, or the end is reached."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._read, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._read)

    async def read_into(self, view: "memoryview[Any]") -> int:
        """Read into `view` as soon as there is something; return how many bytes, 0 at the end."""
        while (count := self.read_now(view)) is None:
            await self.readable()
        return count

    def close_write(self) -> None:
        """Close the writing end here, so that the pipe ends when the child does."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1

    def close(self) -> None:
        """Close both ends, once."""
        self.close_write()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1


MOST_S = 0.2
LEAST_S = 0.01
"""Shorter pauses save nothing."""
SHARE = 0.7
"""How much of the pipe may fill up in a pause: a program that cannot write cannot read its camera either, and
falls behind."""
WINDOW_S = 0.5
"""The rate of bytes is measured over so many seconds."""


class ReadPauses:
    """How long reading may pause before a pipe is full.

    To be woken for each piece of a picture that will not be looked at costs more than reading it, and a pipe
    holds several pictures. Reads no clock itself.

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
        """Note how many bytes were read, and whether the pipe is empty now."""
        self._is_drained = is_drained
        if self._since_s is None:
            self._since_s = now_s
            return
        self._bytes += count
        if (passed_s := now_s - self._since_s) >= WINDOW_S:
            self._bytes_a_s = self._bytes / passed_s
            self._since_s, self._bytes = now_s, 0

    def pause_s(self, idle_s: float) -> float:
        """Return how long to pause, in seconds, if nothing is worth reading for `idle_s`; 0: not at all.

        Bytes that are left in the pipe are read first, or it would fill up from pause to pause.
        """
        if not self._bytes_a_s or not self._is_drained:
            return 0.0
        pause_s = min(MOST_S, idle_s, self._bearable_bytes / self._bytes_a_s)
        return pause_s if pause_s >= LEAST_S else 0.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a camera's program may be silent.

    Attributes:
        start_timeout_s: until its first frame, in seconds.
        stall_timeout_s: from one frame to the next, in seconds.
    """

    start_timeout_s: float
    stall_timeout_s: float


class PipeReader:
    """Hands on the pictures that come through a pipe, and watches that they keep coming.

    Args:
        pipe: read until its end.
        reader: cuts what comes into pictures.
        on_picture: gets each picture; while it waits nothing is read.
        timeouts: how long the program may be silent.
        tally: counts what is skipped.

    Attributes:
        count: how many pictures were handed on.
        problem: why what came cannot be read any further; empty while it can.
    """

    def __init__(
        self,
        pipe: Pipe,
        reader: PictureReader,
        on_picture: OnPicture,
        timeouts: Timeouts,
        tally: Tally,
    ) -> None:
        self.count = 0
        self.problem = ""
        self._pipe = pipe
        self._reader = reader
        self._on_picture = on_picture
        self._timeouts = timeouts
        self._tally = tally
        self._is_changed = False
        self._gather_s = 0.0
        self._pauses = ReadPauses(pipe.size_bytes)
        self._idle_until_s = 0.0

    def size_changed(self) -> None:
        """Stop after what is being read: the pictures' size is another now."""
        self._is_changed = True

    async def run(self) -> str:
        """Read until there is a reason to stop; return it, see `Ending`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeouts.start_timeout_s
        try:
            while count := await self._read(deadline_s):
                has_come = await self._hand_on(self._reader.received(count))
                if self._is_changed:
                    return "changed"
                await self._pause()
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
        """Hand on the pictures that have come; say whether any have."""
        if self._reader.skipped:
            self._tally.skip(self._reader.skipped)
        for picture in pictures:
            self.count += 1
            idle_s = await self._on_picture(picture)
            self._idle_until_s = asyncio.get_running_loop().time() + idle_s
        return bool(pictures)

    async def _pause(self) -> None:
        """Pause while nothing is worth reading and the pipe has room."""
        if pause_s := self._pauses.pause_s(self._idle_until_s - asyncio.get_running_loop().time()):
            await asyncio.sleep(pause_s)
            self._gather_s = 0.0  # enough has gathered

    @property
    def _silence(self) -> str:
        return "stalled" if self.count else "silent"

    async def _read(self, deadline_s: float) -> int:
        """Read on; return how many bytes, 0 at the end. Always gives the other cameras a turn."""
        view = self._reader.buffer()
        if len(view) > _SMALL_BYTES:
            await asyncio.sleep(self._gather_s)
        if (count := self._pipe.read_now(view)) is None:
            async with asyncio.timeout_at(deadline_s):
                await self._pipe.readable()
                await asyncio.sleep(_GATHER_S)
                count = await self._pipe.read_into(view)
        is_drained = count < len(view)
        self._gather_s = _GATHER_S if is_drained else 0.0
        self._pauses.note(count, asyncio.get_running_loop().time(), is_drained=is_drained)
        return count
