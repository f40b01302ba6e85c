"""JPEGs that follow each other without anything between, as `rpicam-vid` writes them."""

from collections.abc import Sequence
from typing import Any

from services.capture.stream.picture import END_MARK, MAX_JPEG_BYTES, JpegPicture, Picture, count_skip
from services.common.images.jpeg import END_OF_SCAN, SOS, START, WITH_LENGTH

CHUNK_BYTES = 256 * 1024


class JpegReader:
    """Cuts a stream into JPEGs by their structure, without decoding them.

    One whose end is missing ends where the next begins, or with the stream.

    Does not use `jpeg.segment_at`: what cannot be a JPEG is given up at its first bytes, before all that it
    announces has come.

    Args:
        max_jpeg_bytes: a larger JPEG is skipped.
    """

    def __init__(self, max_jpeg_bytes: int = MAX_JPEG_BYTES) -> None:
        self.skipped: dict[str, int] = {}
        self._max_jpeg_bytes = max_jpeg_bytes
        self._chunk = bytearray(CHUNK_BYTES)
        self._data = bytearray()
        self._position = 0
        self._is_in_scan = False
        self._has_scan = False

    @property
    def held_bytes(self) -> int:
        """How many bytes are held until more come."""
        return len(self._data)

    def buffer(self) -> "memoryview[Any]":
        """Return the memory for the next bytes, valid until `received`."""
        return memoryview(self._chunk)

    def received(self, count: int) -> Sequence[Picture]:
        """Take `count` bytes of `buffer`; return the pictures that they complete."""
        self._data += memoryview(self._chunk)[:count]
        pictures: list[Picture] = []
        while self._step(pictures):
            pass
        return pictures

    def ended(self) -> Sequence[Picture]:
        """Return the picture that the stream's end has cut off, if its pixels have begun."""
        pictures: list[Picture] = []
        if self._has_scan and len(self._data) <= self._max_jpeg_bytes:
            self._take(len(self._data), pictures)
        return pictures

    def _step(self, pictures: list[Picture]) -> bool:
        if self._position == 0:
            return self._find_start()
        if len(self._data) > self._max_jpeg_bytes:
            self._restart("too_large")
            return True
        return self._find_marker() if self._is_in_scan else self._take_segment(pictures)

    def _find_start(self) -> bool:
        start = self._data.find(START)
        if start < 0:
            keep = next((n for n in (2, 1) if self._data.endswith(START[:n])), 0)
            if len(self._data) > keep:
                count_skip(self.skipped, "garbage")
                del self._data[: len(self._data) - keep]
            return False
        if start > 0:
            count_skip(self.skipped, "garbage")
            del self._data[:start]
        self._position = 2
        return True

    def _find_marker(self) -> bool:
        found = END_OF_SCAN.search(self._data, self._position)
        if found is None:
            self._position = max(self._position, len(self._data) - 1)
            return False
        self._position = found.start()
        self._is_in_scan = False
        return True

    def _take_segment(self, pictures: list[Picture]) -> bool:
        """Read the segment at the current position; say whether there may be more to do."""
        head = self._data[self._position : self._position + 4]
        if head[:2] == END_MARK:
            self._take(self._position + 2, pictures)
            return True
        if len(head) < 4:
            return False
        if self._has_scan and head[:3] == START:
            self._take(self._position, pictures)
            return True
        if head[:2] == b"\xff\xff":
            self._position += 1
            return True
        if head[0] != 0xFF or head[1] not in WITH_LENGTH:
            self._restart("not_a_jpeg")
            return True
        return self._pass_segment(head)

    def _pass_segment(self, head: bytes | bytearray) -> bool:
        length = int.from_bytes(head[2:])
        if len(self._data) < self._position + 2 + length:
            return False
        self._position += 2 + length
        self._is_in_scan = head[1] == SOS
        self._has_scan = self._has_scan or self._is_in_scan
        return True

    def _take(self, length: int, pictures: list[Picture]) -> None:
        pictures.append(JpegPicture(bytes(memoryview(self._data)[:length])))
        self._start_over(length)

    def _restart(self, reason: str) -> None:
        """Look for the next start: what followed this one is no JPEG."""
        count_skip(self.skipped, reason)
        self._start_over(2)

    def _start_over(self, length: int) -> None:
        del self._data[:length]
        self._position = 0
        self._is_in_scan = self._has_scan = False
