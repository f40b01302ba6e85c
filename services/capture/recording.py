"""When each frame of a file was taken, told without decoding one."""

import re
import stat
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.capture.child import CameraUnavailable, run_child
from services.capture.lines import read_lines
from services.capture.rate import RateLimit
from services.common import times

_CREATION = re.compile(r"^\s*creation_time\s*: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)", re.MULTILINE)
_TIME_BASE = re.compile(r"#tb 0: (\d+)/(\d+)")
_CODEC = re.compile(r"#codec_id 0: (\w+)")
# stream, dts, pts, duration, size, checksum: ffmpeg's framecrc muxer
_PACKET = re.compile(r"0,\s*(-?\d+|NOPTS),\s*(-?\d+|NOPTS),")


@dataclass(frozen=True, slots=True)
class Recording:
    """A file's frames.

    Attributes:
        start: when it was begun: its creation time, else when it was last changed.
        media_s: when each frame is due, in seconds from the first one's time, in order of appearance.
        codec: what they are encoded with, by ffmpeg's name.
    """

    start: datetime
    media_s: "array[float]"
    codec: str = ""

    def time(self, frame: int) -> datetime:
        """Return when a frame was taken. Past the end, which a decoder may see elsewhere, it goes on."""
        last = len(self.media_s) - 1
        media_s = self.media_s[min(frame, last)] if last >= 0 else 0.0
        return self.start + timedelta(microseconds=round(media_s * 1_000_000) + max(0, frame - last))

    def chosen(self, fps: float | None) -> frozenset[int]:
        """Return the frames that a rate limit leaves."""
        limit = RateLimit(fps)
        return frozenset(frame for frame, media_s in enumerate(self.media_s) if limit.admits(media_s))


class PacketTimes:
    """Reads the presentation times out of ffmpeg's `framecrc` output, line by line."""

    def __init__(self) -> None:
        self.codec = ""
        self._unit_s = 0.0
        self._ticks = array("q")

    def add(self, line: str) -> None:
        """Take one line."""
        if packet := _PACKET.match(line):
            dts, pts = packet[1], packet[2]
            number = pts if pts != "NOPTS" else dts
            self._ticks.append(int(number) if number != "NOPTS" else self._after_last())
        elif found := _TIME_BASE.match(line):
            self._unit_s = int(found[1]) / int(found[2])
        elif found := _CODEC.match(line):
            self.codec = found[1]

    def media_s(self) -> "array[float]":
        """Return the times in order of appearance, in seconds from the first.

        Packets come in the order in which they are decoded, which B-frames make another one.
        """
        ordered = sorted(self._ticks)
        return array("d", ((ticks - ordered[0]) * self._unit_s for ticks in ordered))

    def _after_last(self) -> int:
        return self._ticks[-1] + 1 if self._ticks else 0


async def survey(ffmpeg: str, path: Path) -> Recording:
    """Return what a file holds, without decoding it.

    Raises:
        CameraUnavailable: it is missing, or no video.
    """
    modified_s = _modified_unix_s(path)
    packets = PacketTimes()
    before = (ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-copyts", "-i", f"file:{path}")
    async with run_child((*before, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "pipe:1")) as child:
        async for line in read_lines(child.output):
            packets.add(line)
        said = "\n".join([line async for line in read_lines(child.errors)])
    media_s = packets.media_s()
    if not media_s:
        raise CameraUnavailable(f"{path} holds no video: {_reason(said)}")
    return Recording(_creation(said) or times.from_unix_s(modified_s), media_s, packets.codec)


def _modified_unix_s(path: Path) -> float:
    try:
        status = path.stat()
    except OSError as error:
        raise CameraUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise CameraUnavailable(f"{path} is no file")
    return status.st_mtime_ns // 1000 / 1_000_000


def _creation(said: str) -> datetime | None:
    """Return the container's creation time, if it has a sensible one."""
    found = _CREATION.search(said)
    if found is None:
        return None
    try:
        time = datetime.fromisoformat(found[1]).astimezone(UTC)
    except ValueError:
        return None
    # A camera that does not know the time writes the start of its own.
    return time if time.year > 1980 else None


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "ffmpeg says nothing about it"
