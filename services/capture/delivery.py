"""What a source delivers, as ffmpeg tells it while it copies: codec, times, creation, rotation."""

import re
from array import array
from datetime import UTC, datetime

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


class Description:
    """Reads what ffmpeg says beside that, line by line, and keeps of it what matters.

    Attributes:
        creation: the container's creation time, if it has a sensible one.
        is_turned: whether players have to turn or mirror the pictures: the stream has a display matrix.
        last_line: what it said last.
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
    # A camera that does not know the time writes the start of its own.
    return time if time.year > 1980 else None
