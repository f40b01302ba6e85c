"""What a JPEG says before its pixels, and where it ends, told without decoding it.

Segments after ITU-T T.81, annex B; the orientation after Exif 2.32 (CIPA DC-008), sections 4.5 and 4.6.4.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

START = b"\xff\xd8\xff"
SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Within a scan 0xFF 0x00 is a stuffed byte and D0 to D7 are restart markers: neither ends it.
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)

UPRIGHT = 1
"""Of Exif's orientations the one that asks for nothing. 3, 6 and 8: turned by 180, 90 and 270 degrees
clockwise it is upright. 2, 4, 5 and 7 are mirrored as well. From 5 on width and height change places.
"""

_APP0, _APP1 = 0xE0, 0xE1
_MAX_SEGMENTS = 1_000
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12
# By the entry's type: a short, a long (by mistake), a byte.
_VALUE_FORMATS = {3: "H", 4: "I", 1: "B"}


class Segment(NamedTuple):
    """A marker's code, and where what belongs to it starts and ends, its length field left out."""

    marker: int
    start: int
    end: int


def segments(jpeg: bytes | memoryview) -> Iterator[Segment]:
    """Yield the segments up to the first scan's header; of a broken JPEG those that are sound."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        while jpeg[position : position + 2] == b"\xff\xff":
            position += 1
        if position + 4 > len(jpeg) or jpeg[position] != 0xFF:
            return
        marker = jpeg[position + 1]
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])
        if not 0xC0 <= marker <= 0xFE or marker in (SOI, EOI) or end > len(jpeg) or end < position + 4:
            return
        yield Segment(marker, position + 4, end)
        if marker == SOS:
            return
        position = end


def scan_start(jpeg: bytes | memoryview) -> int | None:
    """Return where the first scan's data start, or nothing if the headers are broken."""
    for marker, _start, end in segments(jpeg):
        if marker == SOS:
            return end if end < len(jpeg) else None
    return None


def end_of_image(jpeg: bytes | memoryview) -> int | None:
    """Return where the picture ends, just behind its end marker, or nothing if it does not."""
    position = scan_start(jpeg)
    for _ in range(_MAX_SEGMENTS):
        if position is None or (found := END_OF_SCAN.search(jpeg, position)) is None:
            return None
        position = found.start()
        if jpeg[position + 1] == EOI:
            return position + 2
        # Between scans a progressive picture has further segments; T.81, B.2.1.
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    return None


def frame_size(jpeg: bytes | memoryview) -> tuple[int, int] | None:
    """Return the width and height that are stored, in pixels, before anything is turned."""
    for marker, start, end in segments(jpeg):
        if marker in START_OF_FRAME and end - start >= 6:
            height, width = struct.unpack_from(">HH", jpeg, start + 1)
            return width, height
    return None


def orientation(jpeg: bytes | memoryview) -> int:
    """Return how the picture has to be turned, as Exif numbers it; 1 where nothing sensible is said."""
    for marker, start, end in segments(jpeg):
        if marker == _APP1 and jpeg[start : start + len(_EXIF)] == _EXIF:
            return _orientation_in(bytes(jpeg[start + len(_EXIF) : end]))
    return UPRIGHT


def swaps_sides(turn: int) -> bool:
    """Say whether an orientation makes the width the height."""
    return turn >= 5


def with_orientation(jpeg: bytes, turn: int) -> bytes:
    """Return a JPEG that says of itself how to turn it; `jpeg` says nothing yet."""
    if turn == UPRIGHT:
        return jpeg
    directory = struct.pack(">HHHIHHI", 1, _ORIENTATION_TAG, 3, 1, turn, 0, 0)
    content = _EXIF + b"MM\0*" + struct.pack(">I", 8) + directory
    first = next(segments(jpeg), None)
    # JFIF and Exif each want to be first; readers take them in this order.
    place = first.end if first is not None and first.marker == _APP0 else 2
    return jpeg[:place] + struct.pack(">BBH", 0xFF, _APP1, 2 + len(content)) + content + jpeg[place:]


def _orientation_in(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    if directory + 2 > len(tiff):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    first = directory + 2
    last = min(first + count * _ENTRY_BYTES, len(tiff)) - _ENTRY_BYTES
    for entry in range(first, last + 1, _ENTRY_BYTES):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        if tag == _ORIENTATION_TAG:
            value: int = struct.unpack_from(order + _VALUE_FORMATS.get(kind, "B"), tiff, entry + 8)[0]
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
