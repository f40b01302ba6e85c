"""When each frame of a file was taken, told without decoding one."""

import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.capture.child import CameraUnavailable, run_child
from services.capture.delivery import Description, PacketTimes
from services.capture.lines import listen
from services.capture.rate import RateLimit
from services.capture.sources import FFMPEG_VARIABLES, file_input
from services.common.wire import times

if TYPE_CHECKING:
    from array import array

_SCRIPTS = (b"#EXTM3U", b"ffconcat")
SILENCE_S = 30.0
"""For so long may ffmpeg find no further frame. A disk that sleeps or a network share may take a while."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file's frames.

    Attributes:
        start: when it was begun: its creation time, else when it was last changed.
        media_s: when each frame is due, in seconds from the first one's time, in order of appearance.
        codec: what they are encoded with, by ffmpeg's name.
        is_turned: whether a player has to turn or mirror them.
    """

    start: datetime
    media_s: "array[float]"
    codec: str = ""
    is_turned: bool = False

    def time(self, frame: int) -> datetime:
        """Return when a frame was taken. Past the end, which a decoder may see elsewhere, it goes on."""
        last = len(self.media_s) - 1
        media_s = self.media_s[min(frame, last)] if last >= 0 else 0.0
        return self.start + timedelta(microseconds=round(media_s * 1_000_000) + max(0, frame - last))

    def chosen(self, fps: float | None) -> frozenset[int]:
        """Return the frames that a rate limit leaves."""
        limit = RateLimit(fps)
        return frozenset(frame for frame, media_s in enumerate(self.media_s) if limit.admits(media_s))


async def survey(ffmpeg: str, path: Path, silence_s: float = SILENCE_S) -> Recording:
    """Return what a file holds, without decoding it.

    Raises:
        CameraUnavailable: it is missing, or no video, or cannot be read to its end.
    """
    modified_s = _modified_unix_s(path)
    packets, said = PacketTimes(), Description()
    async with run_child(_survey_command(ffmpeg, path), FFMPEG_VARIABLES) as child:
        try:
            await listen(child, packets.add, said.add, silence_s)
        except TimeoutError:
            raise CameraUnavailable(f"{path} holds no further frame for {silence_s:g} s") from None
    media_s = packets.media_s()
    if not media_s:
        reason = said.last_line or "ffmpeg says nothing about it"
        raise CameraUnavailable(f"{path} holds no video: {reason}")
    start = said.creation or times.from_unix_s(modified_s)
    return Recording(start, media_s, packets.codec, said.is_turned)


def _survey_command(ffmpeg: str, path: Path) -> tuple[str, ...]:
    before = (ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-copyts", *file_input(path))
    # Each packet at once: what comes together, and late, would pass for silence.
    return (*before, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-flush_packets", "1", "pipe:1")


def _modified_unix_s(path: Path) -> float:
    try:
        status = path.stat()
    except OSError as error:
        raise CameraUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise CameraUnavailable(f"{path} is no file")
    if _begins_with(path).startswith(_SCRIPTS):
        raise CameraUnavailable(f"{path} is a playlist, which names other files: name the video itself")
    return status.st_mtime_ns // 1000 / 1_000_000


def _begins_with(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise CameraUnavailable(f"{path} cannot be read: {error.strerror}") from error
