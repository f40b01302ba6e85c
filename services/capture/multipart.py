"""Multipart JPEG, as ffmpeg's `mpjpeg`, GStreamer's `multipartmux` and network cameras write it.

`multipart/x-mixed-replace` after RFC 2046, section 5.1, with what cameras make of it: with or without
`Content-Length`, line ends of one or two bytes, anything between the parts.
"""

import re
from collections.abc import Sequence
from typing import Any

from services.capture.jpegs import is_jpeg, is_whole_jpeg
from services.capture.pictures import MAX_JPEG_BYTES, Jpeg, Picture, count_skip
from services.common.jpeg_headers import end_of_image

CHUNK_BYTES = 256 * 1024
MAX_HEADER_BYTES = 8 * 1024

_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,12})[ \t\r]*$", re.IGNORECASE | re.MULTILINE)
_TIMESTAMP = re.compile(
    rb"^x-timestamp:[ \t]*(\d{9,11}(?:\.\d{1,9})?)[ \t\r]*$", re.IGNORECASE | re.MULTILINE
)
_BOUNDARY = re.compile(rb"(?:\A|\n)--[^\r\n]{1,200}\r?\n")
_LONGEST_BOUNDARY = 210


class MultipartReader:
    """Cuts multipart JPEG into its parts and skips, and counts, what is none.

    Holds at most the largest part that it waits for, and a chunk.
    """

    def __init__(self, max_part_bytes: int = MAX_JPEG_BYTES) -> None:
        self.skipped: dict[str, int] = {}
        self._max_part_bytes = max_part_bytes
        self._chunk = bytearray(CHUNK_BYTES)
        self._data = bytearray()
        self._boundary: bytes | None = None
        self._headers: bytes | None = None
        self._searched = 0

    @property
    def held_bytes(self) -> int:
        """How much is held back until more comes."""
        return len(self._data)

    def buffer(self) -> "memoryview[Any]":
        """Return where the next bytes belong."""
        return memoryview(self._chunk)

    def received(self, count: int) -> Sequence[Picture]:
        """Return the pictures that are now complete."""
        self._data += memoryview(self._chunk)[:count]
        pictures: list[Picture] = []
        while self._step(pictures):
            pass
        return pictures

    def ended(self) -> Sequence[Picture]:
        """Return the picture that the stream's end has cut off from its boundary, or cut short."""
        pictures: list[Picture] = []
        if self._headers is not None and 0 < len(self._data) <= self._max_part_bytes:
            self._finish(self._headers, len(self._data), pictures)
        return pictures

    def _step(self, pictures: list[Picture]) -> bool:
        """Go on by one boundary, header or body; say whether there may be more to do."""
        if self._boundary is None:
            return self._find_boundary()
        if self._headers is None:
            return self._find_headers()
        return self._find_body(self._headers, pictures)

    def _find_boundary(self) -> bool:
        found = _BOUNDARY.search(self._data)
        if found is None:
            if len(self._data) > _LONGEST_BOUNDARY:
                self._skip("garbage", len(self._data) - _LONGEST_BOUNDARY)
            return False
        if self._data[: found.start()].strip():
            count_skip(self.skipped, "garbage")
        self._boundary = found[0].strip()
        # The line end stays: an empty header is a line end more.
        self._drop(found.end() - 1)
        return True

    def _find_headers(self) -> bool:
        found = _END_OF_HEADERS.search(self._data, 0, MAX_HEADER_BYTES)
        if found is None:
            if len(self._data) <= MAX_HEADER_BYTES:
                return False
            self._resynchronise("bad_header")
            return True
        self._headers = bytes(self._data[: found.start() + 1])
        self._drop(found.end())
        return True

    def _find_body(self, headers: bytes, pictures: list[Picture]) -> bool:
        length = self._declared_length(headers)
        if length is not None and length > self._max_part_bytes:
            self._resynchronise("too_large")
            return True
        if length is None:
            return self._find_unmeasured_body(headers, pictures)
        if len(self._data) < length:
            return False
        self._finish(headers, length, pictures)
        return True

    def _find_unmeasured_body(self, headers: bytes, pictures: list[Picture]) -> bool:
        assert self._boundary is not None
        end = self._data.find(b"\n" + self._boundary, self._searched)
        if end >= 0:
            end -= self._data[end - 1 : end] == b"\r"
            self._finish(headers, end, pictures)
            return True
        if len(self._data) > self._max_part_bytes:
            self._resynchronise("too_large")
            return True
        self._searched = max(0, len(self._data) - len(self._boundary) - 2)
        return False

    def _finish(self, headers: bytes, length: int, pictures: list[Picture]) -> None:
        length = self._true_length(length)
        if length:
            pictures.append(Jpeg(bytes(memoryview(self._data)[:length]), _taken_unix_s(headers)))
            self._drop(length)
            self._boundary = self._headers = None
        else:
            # Cut short, it holds the start of the next part: what was taken for the body is looked at again.
            self._resynchronise("not_a_jpeg")

    def _true_length(self, length: int) -> int:
        """Return how much of what was announced is the picture; 0 if there is none."""
        # The view must be gone before the array may change its size.
        with memoryview(self._data) as data, data[:length] as body:
            if is_whole_jpeg(body):
                return length
            if not is_jpeg(body):
                return 0
            # Something stands behind the end, or there is none.
            end = end_of_image(body)
        return self._before_boundary(length) if end is None else end

    def _before_boundary(self, length: int) -> int:
        """Return how much of a body comes before the next part, into which it may reach."""
        assert self._boundary is not None
        boundary = self._data.find(b"\n" + self._boundary, 0, length)
        if boundary < 0:
            return length
        return boundary - (self._data[boundary - 1 : boundary] == b"\r")

    def _declared_length(self, headers: bytes) -> int | None:
        found = _LENGTH.search(headers)
        return int(found[1]) if found else None

    def _resynchronise(self, reason: str) -> None:
        self._boundary = self._headers = None
        self._searched = 0
        count_skip(self.skipped, reason)

    def _skip(self, reason: str, count: int) -> None:
        count_skip(self.skipped, reason)
        self._drop(count)

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._searched = 0


def _taken_unix_s(headers: bytes) -> float | None:
    found = _TIMESTAMP.search(headers)
    return float(found[1]) if found else None
