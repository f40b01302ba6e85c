"""Multipart JPEG, as ffmpeg's `mpjpeg`, GStreamer's `multipartmux` and network cameras write it.

`multipart/x-mixed-replace` after RFC 2046, section 5.1, with what cameras make of it: with or without
`Content-Length`, line ends of one or two bytes, anything between the parts.
"""

import re
from collections.abc import Sequence
from typing import Any

from services.capture.stream.picture import END_MARK, MAX_JPEG_BYTES, JpegPicture, Picture, count_skip
from services.common.images.jpeg import START, end_of_image, scan_start
from services.common.images.structure import MAX_PADDING_BYTES, PADDING

CHUNK_BYTES = 256 * 1024
MAX_HEADER_BYTES = 8 * 1024

_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_TIMESTAMP = re.compile(
    rb"^x-timestamp:[ \t]*(\d{9,11}(?:\.\d{1,9})?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE
)
_BOUNDARY_LINE = rb"--[^\r\n]{1,200}\r?\n"
_BOUNDARY_HERE, _BOUNDARY = re.compile(_BOUNDARY_LINE), re.compile(rb"\n" + _BOUNDARY_LINE)
_LONGEST_BOUNDARY = 210


def is_jpeg(data: bytes | memoryview) -> bool:
    """Say whether `data` begins as a JPEG, and has valid headers and a scan behind them.

    Its end is not checked: cameras leave out the end marker or append other bytes, and only decoding tells
    whether all pixels are there.
    """
    return bytes(data[:3]) == START and scan_start(data) is not None


def is_whole_jpeg(data: bytes | memoryview) -> bool:
    """Say whether `data` is a JPEG that also ends as one, save for padding.

    The scan itself is not read: a frame that is passed through may cost microseconds only.
    """
    if not is_jpeg(data):
        return False
    return bytes(data[-2:]) == END_MARK or bytes(data[-MAX_PADDING_BYTES:]).rstrip(PADDING).endswith(END_MARK)


class MultipartReader:
    """Cuts multipart JPEG into its parts, and skips and counts everything else.

    Holds at most the largest part that it waits for, and a chunk. Bytes are read straight into their place,
    in memory that is used again: to allocate it anew each time costs more than reading.

    Args:
        max_part_bytes: a larger part is skipped.
    """

    def __init__(self, max_part_bytes: int = MAX_JPEG_BYTES) -> None:
        self.skipped: dict[str, int] = {}
        self._max_part_bytes = max_part_bytes
        self._data = bytearray(2 * CHUNK_BYTES)
        self._start = self._end = 0
        self._boundary: bytes | None = None
        self._headers: bytes | None = None
        self._searched = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes are held until more come."""
        return self._end - self._start

    def buffer(self) -> "memoryview[Any]":
        """Return the memory for the next bytes, valid until `received`."""
        if self._start or self._end + CHUNK_BYTES > len(self._data):
            self._make_room()
        return memoryview(self._data)[self._end : self._end + CHUNK_BYTES]

    def _make_room(self) -> None:
        """Move the held bytes to the front, of a larger buffer if they need one."""
        held = self.held_bytes
        room = bytearray(2 * len(self._data)) if held + CHUNK_BYTES > len(self._data) else self._data
        with memoryview(self._data) as data:
            room[:held] = data[self._start : self._end]
        self._data, self._start, self._end = room, 0, held

    def received(self, count: int) -> Sequence[Picture]:
        """Take `count` bytes of `buffer`; return the pictures that they complete."""
        self._end += count
        pictures: list[Picture] = []
        while self._step(pictures):
            pass
        return pictures

    def ended(self) -> Sequence[Picture]:
        """Return the last picture, which the stream's end may have cut short."""
        pictures: list[Picture] = []
        if self._headers is not None and 0 < self.held_bytes <= self._max_part_bytes:
            self._finish(self._headers, self.held_bytes, pictures)
        return pictures

    def _step(self, pictures: list[Picture]) -> bool:
        """Go on by one boundary, header or body; say whether there may be more to do."""
        if self._boundary is None:
            return self._find_boundary()
        if self._headers is None:
            return self._find_headers()
        return self._find_body(self._headers, pictures)

    def _find_boundary(self) -> bool:
        where = self._data, self._start, self._end
        found = _BOUNDARY_HERE.match(*where) or _BOUNDARY.search(*where)
        if found is None:
            if self.held_bytes > _LONGEST_BOUNDARY:
                self._skip("garbage", self.held_bytes - _LONGEST_BOUNDARY)
            return False
        if self._data[self._start : found.start()].strip():
            count_skip(self.skipped, "garbage")
        self._boundary = found[0].strip()
        # The line end stays: an empty header is a line end more.
        self._drop_to(found.end() - 1)
        return True

    def _find_headers(self) -> bool:
        most = min(self._end, self._start + MAX_HEADER_BYTES)
        found = _END_OF_HEADERS.search(self._data, self._start, most)
        if found is None:
            if self.held_bytes <= MAX_HEADER_BYTES:
                return False
            self._resynchronise("bad_header")
            return True
        self._headers = bytes(self._data[self._start : found.start() + 1])
        self._drop_to(found.end())
        return True

    def _find_body(self, headers: bytes, pictures: list[Picture]) -> bool:
        length = self._declared_length(headers)
        if length is not None and length > self._max_part_bytes:
            self._resynchronise("too_large")
            return True
        if length is None:
            return self._find_unmeasured_body(headers, pictures)
        if self.held_bytes < length:
            return False
        self._finish(headers, length, pictures)
        return True

    def _find_unmeasured_body(self, headers: bytes, pictures: list[Picture]) -> bool:
        assert self._boundary is not None
        end = self._data.find(b"\n" + self._boundary, self._start + self._searched, self._end)
        if end >= 0:
            end -= self._data[end - 1 : end] == b"\r"
            self._finish(headers, end - self._start, pictures)
            return True
        if self.held_bytes > self._max_part_bytes:
            self._resynchronise("too_large")
            return True
        self._searched = max(0, self.held_bytes - len(self._boundary) - 2)
        return False

    def _finish(self, headers: bytes, length: int, pictures: list[Picture]) -> None:
        length = self._true_length(length)
        if length:
            end = self._start + length
            data = bytes(memoryview(self._data)[self._start : end])
            pictures.append(JpegPicture(data, _taken_unix_s(headers)))
            self._drop_to(end)
            self._boundary = self._headers = None
        else:
            # A part that is cut short holds the start of the next one: its bytes are searched again.
            self._resynchronise("not_a_jpeg")

    def _true_length(self, length: int) -> int:
        """Return how many of the announced bytes are the picture; 0 if there is none."""
        # The view must be gone before the array may change its size.
        with memoryview(self._data) as data, data[self._start : self._start + length] as body:
            if is_whole_jpeg(body):
                return length
            if not is_jpeg(body):
                return 0
            # Other bytes follow the end marker, or it is missing.
            end = end_of_image(body)
        return self._before_boundary(length) if end is None else end

    def _before_boundary(self, length: int) -> int:
        """Return how many bytes of a body come before the next part, which it may contain."""
        assert self._boundary is not None
        boundary = self._data.find(b"\n" + self._boundary, self._start, self._start + length)
        if boundary < 0:
            return length
        return boundary - (self._data[boundary - 1 : boundary] == b"\r") - self._start

    def _declared_length(self, headers: bytes) -> int | None:
        found = _LENGTH.search(headers)
        return int(found[1]) if found else None

    def _resynchronise(self, reason: str) -> None:
        self._boundary = self._headers = None
        self._searched = 0
        count_skip(self.skipped, reason)

    def _skip(self, reason: str, count: int) -> None:
        count_skip(self.skipped, reason)
        self._drop_to(self._start + count)

    def _drop_to(self, position: int) -> None:
        self._start, self._searched = position, 0


def _taken_unix_s(headers: bytes) -> float | None:
    found = _TIMESTAMP.search(headers)
    return float(found[1]) if found else None
