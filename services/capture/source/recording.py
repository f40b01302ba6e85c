"""Asks a source what it delivers, before it is decoded: its codec, and when each frame was taken."""

import re
import stat
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.capture.cameras import Camera
from services.capture.flow_control import RateLimit
from services.capture.source.child import CameraUnavailable, listen, run_child
from services.capture.source.commands import (
    FFMPEG_VARIABLES,
    address_variables,
    file_input,
    look_command,
    probe_command,
)
from services.capture.source.facts import SourceFacts
from services.capture.source.http_address import HttpKind
from services.capture.source.watch import StderrTail
from services.common.wire import times

_CREATION = re.compile(r"^\s*creation_time\s*: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")
_OUTPUT = re.compile(r"^Output #0")
# "displaymatrix" until ffmpeg 7. The angle alone does not tell whether the picture is mirrored, too.
_DISPLAY_MATRIX = re.compile(r"^\s*display ?matrix: rotation of ", re.IGNORECASE)
_TIME_BASE = re.compile(r"#tb 0: (\d+)/(\d+)")
_CODEC = re.compile(r"#codec_id 0: (\w+)")
# stream, dts, pts, duration, size, checksum: ffmpeg's framecrc muxer
_PACKET = re.compile(r"0,\s*(-?\d+|NOPTS),\s*(-?\d+|NOPTS),")
_MAX_REASON_CHARACTERS = 300


class PacketTimes:
    """Reads presentation times out of ffmpeg's `framecrc` output, line by line.

    Attributes:
        codec: by ffmpeg's name; empty until it is known.
    """

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
        """Return the frames' times in order of appearance, in seconds from the first.

        Packets come in decoding order, which differs where there are B-frames.
        """
        ordered = sorted(self._ticks)
        return array("d", ((ticks - ordered[0]) * self._unit_s for ticks in ordered))

    def _after_last(self) -> int:
        return self._ticks[-1] + 1 if self._ticks else 0


class FfmpegLog:
    """Reads ffmpeg's log, line by line, and keeps what is needed.

    Attributes:
        creation: the container's creation time, UTC; None where it has none that can be true.
        is_turned: whether players have to rotate or mirror the pictures: the stream has a display matrix.
        last_line: the last one that is not empty.
    """

    def __init__(self) -> None:
        self.creation: datetime | None = None
        self.is_turned = False
        self.last_line = ""
        self._is_output = False

    def add(self, line: str) -> None:
        """Take one line."""
        if line.strip():
            self.last_line = line.strip()[:_MAX_REASON_CHARACTERS]
        if self.creation is None and (found := _CREATION.match(line)):
            self.creation = _sensible_time(found[1])
        # The input may have several streams; the output has the one that is played.
        self._is_output = self._is_output or _OUTPUT.match(line) is not None
        if self._is_output and _DISPLAY_MATRIX.match(line):
            self.is_turned = True


def _sensible_time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
    # A camera that does not know the time writes the start of its epoch.
    return time if time.year > 1980 else None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source delivers.

    Attributes:
        codec: by ffmpeg's name.
        is_turned: whether a player has to rotate or mirror the pictures.
    """

    codec: str
    is_turned: bool


async def probe(camera: Camera, facts: SourceFacts, timeout_s: float) -> StreamInfo:
    """Return what a source delivers, as ffmpeg tells it.

    Raises:
        CameraUnavailable: it cannot be opened, or not within `timeout_s` seconds.
    """
    packets, said = PacketTimes(), FfmpegLog()
    tail = StderrTail(camera.url, facts.relay_address.url if facts.relay_address else "")

    def note(line: str) -> None:
        said.add(line)
        tail.add(f"{line}\n".encode())

    async with run_child(probe_command(camera, facts), FFMPEG_VARIABLES) as child:
        try:
            await listen(child, packets.add, note, timeout_s)
        except TimeoutError:
            raise CameraUnavailable(f"no answer within {timeout_s:g} s") from None
    if not packets.codec:
        raise CameraUnavailable(str(tail) or "it holds no video")
    return StreamInfo(packets.codec, said.is_turned)


async def ask_http_kind(camera: Camera, facts: SourceFacts, timeout_s: float) -> HttpKind:
    """Return how an `http` address answers.

    Raises:
        CameraUnavailable: the program that asks cannot be started.
    """
    said: list[str] = []
    async with run_child(look_command(facts), address_variables(camera)) as child:
        try:
            await listen(child, said.append, lambda _line: None, timeout_s)
        except TimeoutError:
            return HttpKind.STREAM
    return HttpKind(said[0]) if said else HttpKind.STREAM


_SCRIPTS = (b"#EXTM3U", b"ffconcat")
SILENCE_S = 30.0
"""How long ffmpeg may find no further frame, in seconds: a disk that sleeps or a network share is slow."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The frames of a recording.

    Attributes:
        start: when the first was taken, UTC: the file's creation time, else when it was last modified.
        media_s: when each frame is shown, in seconds from the first, in order of appearance.
        codec: by ffmpeg's name.
        is_turned: whether a player has to rotate or mirror them.
    """

    start: datetime
    media_s: "array[float]"
    codec: str = ""
    is_turned: bool = False

    def time(self, frame: int) -> datetime:
        """Return when a frame was taken, UTC. Those that a decoder finds beyond the list come later."""
        last = len(self.media_s) - 1
        media_s = self.media_s[min(frame, last)] if last >= 0 else 0.0
        return self.start + timedelta(microseconds=round(media_s * 1_000_000) + max(0, frame - last))

    def chosen(self, fps: float | None) -> frozenset[int]:
        """Return the numbers of the frames that a rate limit leaves; `fps` None: all."""
        limit = RateLimit(fps)
        return frozenset(frame for frame, media_s in enumerate(self.media_s) if limit.admits(media_s))


async def survey(ffmpeg: str, path: Path, silence_s: float = SILENCE_S) -> Recording:
    """Return what a recording holds, without decoding it.

    Raises:
        CameraUnavailable: it is missing, is no video, or cannot be read to its end.
    """
    modified_s = _modified_unix_s(path)
    packets, said = PacketTimes(), FfmpegLog()
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
    # Each packet at once: packets that are held back would look like silence.
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
