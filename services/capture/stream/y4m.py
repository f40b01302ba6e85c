"""YUV4MPEG2, as ffmpeg's `yuv4mpegpipe` and mjpegtools write it.

Format: https://manpages.debian.org/bookworm/mjpegtools/yuv4mpeg.5.en.html
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.capture.stream.picture import Picture, Plane, StreamBroken, YuvPicture
from services.common.images.structure import MAX_PIXELS

_MAX_LINE_BYTES = 512
_MAGIC = b"YUV4MPEG2"
_FRAME = b"FRAME\n"


class Y4mReader:
    """Cuts a YUV4MPEG2 stream of 4:2:0 pictures into planes, which are read straight into their arrays."""

    def __init__(self) -> None:
        self.skipped: dict[str, int] = {}
        self._width = 0
        self._height = 0
        self._line = bytearray()
        self._piece = bytearray(1)
        self._pixels: Plane | None = None
        self._filled = 0

    def buffer(self) -> "memoryview[Any]":
        """Return the memory for the next bytes, of a line or of the picture, valid until `received`."""
        if self._pixels is None:
            return memoryview(self._piece)
        return self._pixels.data[self._filled :]

    def received(self, count: int) -> Sequence[Picture]:
        """Take `count` bytes of `buffer`; return the picture that they complete, if they do.

        Raises:
            StreamBroken: this is no YUV4MPEG2, or not 4:2:0 with 8 bits.
        """
        if self._pixels is None:
            self._add_to_line(count)
            return ()
        self._filled += count
        if self._filled < len(self._pixels):
            return ()
        picture = self._planes(self._pixels)
        self._pixels = None
        self._piece = bytearray(len(_FRAME))
        return (picture,)

    def ended(self) -> Sequence[Picture]:
        """Return no picture: a part of a raw picture cannot be used."""
        return ()

    def _add_to_line(self, count: int) -> None:
        self._line += self._piece[:count]
        # Never past a line's end, so that each picture is read into its place without a copy.
        self._piece = bytearray(max(1, len(_FRAME) - len(self._line)) if self._width else 1)
        if self._line[-1:] != b"\n":
            if len(self._line) > _MAX_LINE_BYTES:
                raise StreamBroken("not YUV4MPEG2: a line has no end")
            return
        line, self._line = bytes(self._line[:-1]), bytearray()
        if self._width == 0:
            self._width, self._height = parse_header(line)
            self._piece = bytearray(len(_FRAME))
        elif line == b"FRAME" or line.startswith(b"FRAME "):
            self._pixels = np.empty(self._luma + 2 * self._chroma, np.uint8)
            self._filled = 0
        else:
            raise StreamBroken("not YUV4MPEG2: FRAME was expected")

    @property
    def _luma(self) -> int:
        return self._width * self._height

    @property
    def _chroma(self) -> int:
        return -(-self._width // 2) * -(-self._height // 2)

    def _planes(self, pixels: Plane) -> YuvPicture:
        y, u, v = np.split(pixels, (self._luma, self._luma + self._chroma))
        half = (-(-self._height // 2), -(-self._width // 2))
        return YuvPicture(y.reshape(self._height, self._width), u.reshape(half), v.reshape(half))


def parse_header(line: bytes) -> tuple[int, int]:
    """Return width and height in pixels out of a stream's first line.

    Raises:
        StreamBroken: it is no YUV4MPEG2, not 4:2:0 with 8 bits, or larger than `MAX_PIXELS`.
    """
    magic, *words = line.split(b" ")
    parameters = {word[:1]: word[1:] for word in reversed(words)}
    width, height = parameters.get(b"W", b""), parameters.get(b"H", b"")
    if magic != _MAGIC or not re.fullmatch(rb"\d{1,5} \d{1,5}", width + b" " + height):
        raise StreamBroken("not YUV4MPEG2: no header")
    if parameters.get(b"C", b"420jpeg") not in (b"420jpeg", b"420mpeg2", b"420paldv", b"420"):
        raise StreamBroken(f"not 4:2:0 with 8 bits: {parameters[b'C'][:20]!r}")
    if min(int(width), int(height)) < 2 or int(width) * int(height) > MAX_PIXELS:
        raise StreamBroken(f"absurd size {int(width)}x{int(height)}")
    return int(width), int(height)
