"""Where a JPEG ends, told without decoding it. After ITU-T T.81, annex B."""

import re
from collections.abc import Sequence
from typing import Any

from services.capture.pictures import MAX_JPEG_BYTES, Jpeg, Picture, count_skip

CHUNK_BYTES = 256 * 1024
_START = b"\xff\xd8\xff"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_END_MARK = b"\xff\xd9"
# Cameras pad what they hand over; more than this is not padding.
_PADDING = b"\x00\xff\r\n"
_MAX_PADDING_BYTES = 64 * 1024
# Within a scan 0xFF 0x00 is a stuffed byte and D0 to D7 are restart markers: neither ends it.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


def is_whole_jpeg(data: bytes | memoryview) -> bool:
    """Say whether `data` begins as a JPEG, has sound headers up to its scan, and ends as a JPEG.

    The scan itself is not looked at: a pass-through frame is to cost microseconds.
    """
    if bytes(data[:3]) != _START or _scan_start(data) is None:
        return False
    return bytes(data[-2:]) == _END_MARK or bytes(data[-_MAX_PADDING_BYTES:]).rstrip(_PADDING).endswith(
        _END_MARK
    )


def _scan_start(data: bytes | memoryview) -> int | None:
    """Return where the first scan's data start, or nothing if the headers are broken."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if not 0xC0 <= marker <= 0xFE or marker in (_EOI, _SOI):
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == _SOS:
            return position if position < len(data) else None
    return None


class JpegReader:
    """Cuts JPEGs that follow each other without anything between, as `rpicam-vid` writes them."""

    def __init__(self, max_jpeg_bytes: int = MAX_JPEG_BYTES) -> None:
        self.skipped: dict[str, int] = {}
        self._max_jpeg_bytes = max_jpeg_bytes
        self._chunk = bytearray(CHUNK_BYTES)
        self._data = bytearray()
        self._position = 0
        self._is_in_scan = False

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

    def _step(self, pictures: list[Picture]) -> bool:
        if self._position == 0:
            return self._find_start()
        if len(self._data) > self._max_jpeg_bytes:
            self._restart("too_large")
            return True
        return self._find_marker() if self._is_in_scan else self._take_segment(pictures)

    def _find_start(self) -> bool:
        start = self._data.find(_START)
        if start < 0:
            keep = next((n for n in (2, 1) if self._data.endswith(_START[:n])), 0)
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
        found = _END_OF_SCAN.search(self._data, self._position)
        if found is None:
            self._position = max(self._position, len(self._data) - 1)
            return False
        self._position = found.start()
        self._is_in_scan = False
        return True

    def _take_segment(self, pictures: list[Picture]) -> bool:
        """Go on behind the segment at the present position."""
        head = self._data[self._position : self._position + 4]
        if head[:2] == _END_MARK:
            pictures.append(Jpeg(bytes(memoryview(self._data)[: self._position + 2])))
            del self._data[: self._position + 2]
            self._position = 0
            return True
        if len(head) < 4:
            return False
        if head[0] != 0xFF or not 0xC0 <= head[1] <= 0xFF or head[1] == _SOI:
            self._restart("not_a_jpeg")
            return True
        if head[1] == 0xFF:
            self._position += 1
            return True
        length = int.from_bytes(head[2:])
        if len(self._data) < self._position + 2 + length:
            return False
        self._position += 2 + length
        self._is_in_scan = head[1] == _SOS
        return True

    def _restart(self, reason: str) -> None:
        """Look for another start behind the one that led nowhere."""
        count_skip(self.skipped, reason)
        del self._data[:2]
        self._position = 0
        self._is_in_scan = False
