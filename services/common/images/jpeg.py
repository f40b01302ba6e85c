"""A JPEG's segments, its end, and what decoding it would cost; no pixel is decoded (ITU-T T.81, annex B)."""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from services.common.errors import Refused

START = b"\xff\xd8\xff"
SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Within a scan 0xFF 0x00 is a stuffed byte and D0 to D7 are restart markers: neither ends it.
END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_HEAD = struct.Struct(">BBH")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8), EOI})
WITH_LENGTH = frozenset(range(0xC0, 0xFF)) - _WITHOUT_LENGTH - {SOI}
"""Markers of segments with a length. (Those below 0xC0 are reserved.)"""

UPRIGHT = 1
"""The Exif orientation of an upright picture. With 3, 6 and 8 it has to be turned by 180, 90 and 270 degrees
clockwise; with 2, 4, 5 and 7 it is mirrored as well. From 5 on width and height are exchanged.
"""

_APP0, _APP1 = 0xE0, 0xE1
_MOST_HEADERS = 1_000
_MOST_SEGMENTS = 10_000
"""Nothing real has as many; a large image made of nothing else would keep the reader busy for seconds."""
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12
# By the entry's type: a short, a long (by mistake), a byte.
_VALUE_FORMATS = {3: "H", 4: "I", 1: "B"}


class Segment(NamedTuple):
    """A segment: its marker's second byte, and where its content after the length field starts and ends."""

    marker: int
    start: int
    end: int


def segment_at(jpeg: bytes | memoryview, position: int) -> Segment | None:
    """Return the segment that begins at `position`, or None if it is incomplete.

    Raises:
        Refused: `bad_image`: there is no marker; `truncated_image`: its length is less than 2.
    """
    if position + 4 <= len(jpeg):
        # The fast path of nearly all segments: microseconds count for frames that are passed through.
        fill, marker, length = _HEAD.unpack_from(jpeg, position)
        end = position + 2 + length
        if fill == 0xFF and marker in WITH_LENGTH and length >= 2 and end <= len(jpeg):
            return Segment(marker, position + 4, end)
    return _odd_segment_at(jpeg, position)


def _odd_segment_at(jpeg: bytes | memoryview, position: int) -> Segment | None:
    """Do as `segment_at`, for the rare cases: fill bytes, markers without a length, the end."""
    found = _MARKER.match(jpeg, position)
    if found is None:
        if jpeg[position : position + 1] in (b"", b"\xff"):  # nothing, or nothing but fill bytes
            return None
        raise Refused("bad_image", f"no marker at byte {position}")
    start = found.end()
    marker = jpeg[start - 1]
    if marker in _WITHOUT_LENGTH:
        return Segment(marker, start, start)
    if marker in (0x00, SOI):
        raise Refused("bad_image", f"no marker at byte {position}")
    length = int.from_bytes(jpeg[start : start + 2])
    end = start + length
    if end > len(jpeg) or start + 2 > len(jpeg):
        return None
    if length < 2:
        raise Refused("truncated_image", "a segment shorter than its length")
    return Segment(marker, start + 2, end)


def segments(jpeg: bytes | memoryview) -> Iterator[Segment]:
    """Yield the segments up to the first scan's header; of a broken JPEG those before the defect."""
    position = 2
    for _ in range(_MOST_HEADERS):
        try:
            segment = segment_at(jpeg, position)
        except Refused:
            return
        if segment is None or segment.marker not in WITH_LENGTH:
            return
        yield segment
        if segment.marker == SOS:
            return
        position = segment.end


def walk(jpeg: bytes | memoryview) -> Iterator[Segment]:
    """Yield all segments, those between scans too, and the end marker last; the scans' data are skipped.

    Raises:
        Refused: `bad_image` or `truncated_image`: there is a defect before the end marker, or no end marker.
    """
    position = 2
    for number in itertools.count():
        segment = segment_at(jpeg, position)
        if segment is None:
            raise Refused("truncated_image", "no end marker")
        if number >= _MOST_SEGMENTS and segment.marker != EOI:
            raise Refused("bad_image", f"more than {_MOST_SEGMENTS} segments")
        yield segment
        if segment.marker == EOI:
            return
        position = segment.end if segment.marker != SOS else _end_of_scan(jpeg, segment.end)


def _end_of_scan(jpeg: bytes | memoryview, position: int) -> int:
    found = END_OF_SCAN.search(jpeg, position)
    if found is None:
        raise Refused("truncated_image", "no end marker")
    return found.start()


def scan_start(jpeg: bytes | memoryview) -> int | None:
    """Return where the first scan's data start, or None if the headers are broken."""
    for marker, _start, end in segments(jpeg):
        if marker == SOS:
            return end if end < len(jpeg) else None
    return None


def end_of_image(jpeg: bytes | memoryview) -> int | None:
    """Return where the picture ends, just after its end marker, or None without one.

    After the first scan's header it tolerates what `walk` refuses: after a broken segment it searches for the
    next marker, as decoders do.
    """
    position = scan_start(jpeg)
    for _ in range(_MOST_HEADERS):
        if position is None or (found := END_OF_SCAN.search(jpeg, position)) is None:
            return None
        position = found.start()
        if jpeg[position + 1] == EOI:
            return position + 2
        # A progressive picture has further segments between its scans; T.81, B.2.1.
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    return None


def orientation(jpeg: bytes | memoryview) -> int:
    """Return the Exif orientation, 1 to 8; `UPRIGHT` without a valid one."""
    for marker, start, end in segments(jpeg):
        if marker == _APP1 and jpeg[start : start + len(_EXIF)] == _EXIF:
            return _orientation_in(bytes(jpeg[start + len(_EXIF) : end]))
    return UPRIGHT


def swaps_sides(turn: int) -> bool:
    """Return whether an Exif orientation exchanges width and height."""
    return turn >= 5


def with_orientation(jpeg: bytes, turn: int) -> bytes:
    """Return a JPEG with this Exif orientation; `jpeg` must have none."""
    if turn == UPRIGHT:
        return jpeg
    directory = struct.pack(">HHHIHHI", 1, _ORIENTATION_TAG, 3, 1, turn, 0, 0)
    return with_exif(jpeg, b"MM\0*" + struct.pack(">I", 8) + directory)


def with_exif(jpeg: bytes, tiff: bytes) -> bytes:
    """Return a JPEG with Exif data, given as a TIFF structure; `jpeg` must have none."""
    content = _EXIF + tiff
    first = next(segments(jpeg), None)
    # JFIF and Exif each demand to be first; readers accept this order.
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


MAX_SCANS = 100
"""Encoders make about ten, some up to 65. LibreOffice has this limit too, libjpeg-turbo's fuzzers 500."""
MAX_KEPT_SAMPLES = 96_000_000
"""64 megapixels with halved colours: 192 MB of coefficients."""
MAX_SCANNED_SAMPLES = 1_000_000_000
"""Samples of all scans together: ten scans of the largest picture that is kept. About half a second."""

_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_BLOCK_PX = 8


class FrameHeader(NamedTuple):
    """A frame header; ITU-T T.81, B.2.2.

    Attributes:
        marker: the second byte of its marker, which tells the coding.
        precision: bits of a sample.
        width: in pixels.
        height: in pixels.
        components: each component's identifier and number of samples, with those that fill the last blocks.
    """

    marker: int
    precision: int
    width: int
    height: int
    components: tuple[tuple[int, int], ...]

    @property
    def samples(self) -> int:
        """The samples of all components."""
        return sum(samples for _, samples in self.components)

    def keeps_coefficients(self, first_scan_components: int) -> bool:
        """Return whether a decoder keeps all coefficients, given the first scan's number of components."""
        return self.marker not in _SEQUENTIAL or first_scan_components < len(self.components)


def read_frame_header(marker: int, content: bytes | memoryview) -> FrameHeader:
    """Parse a frame header.

    Args:
        marker: its marker's second byte.
        content: the segment without marker and length.

    Raises:
        Refused: `bad_image`: it is not a valid one of one to four components.
    """
    if len(content) < 6:
        raise Refused("bad_image", "short frame header")
    precision, height, width, count = struct.unpack_from(">BHHB", content)
    factors = [
        (content[at], content[at + 1] >> 4, content[at + 1] & 15) for at in range(6, len(content) - 2, 3)
    ]
    if not 1 <= count <= 4 or len(content) != 6 + 3 * count:
        raise Refused("bad_image", f"a frame header of {count} components and {len(content)} bytes")
    if any(not 1 <= wide <= 4 or not 1 <= high <= 4 for _, wide, high in factors):
        raise Refused("bad_image", "a sampling factor that is none")
    across = -(-width // (_BLOCK_PX * max(wide for _, wide, _ in factors)))
    down = -(-height // (_BLOCK_PX * max(high for _, _, high in factors)))
    units = across * down * _BLOCK_PX * _BLOCK_PX
    return FrameHeader(
        marker, precision, width, height, tuple((name, units * wide * high) for name, wide, high in factors)
    )


class DecodingCost:
    """Adds up what decoding the scans of one picture costs.

    Args:
        frame: the picture's frame header.

    Attributes:
        frame: the same.
        scans: the number of scans so far.
    """

    def __init__(self, frame: FrameHeader) -> None:
        self.frame = frame
        self.scans = 0
        self._scanned = 0

    def add_scan(self, header: bytes | memoryview) -> None:
        """Add a scan.

        Args:
            header: the scan's header without marker and length.

        Raises:
            Refused: `too_many_scans`, `too_much_to_decode`, or `bad_image`: the header is not valid.
        """
        count = header[0] if header else 0
        if not 1 <= count <= 4 or len(header) != 4 + 2 * count:
            raise Refused("bad_image", f"a scan header of {count} components and {len(header)} bytes")
        self.scans += 1
        if self.scans > MAX_SCANS:
            raise Refused("too_many_scans", f"more than {MAX_SCANS}")
        if count == len(self.frame.components):
            self._scanned += self.frame.samples
        else:
            self._scanned += sum(map(self._samples_of, header[1 : 1 + 2 * count : 2]))
        check_samples(self.frame.samples if self._keeps(count) else 0, self._scanned)

    def _keeps(self, count: int) -> bool:
        return self.scans == 1 and self.frame.keeps_coefficients(count)

    def _samples_of(self, name: int) -> int:
        """Return a component's samples; if several share the identifier, the most; 0 if none has it."""
        return max((samples for other, samples in self.frame.components if other == name), default=0)


def check_samples(kept: int, scanned: int) -> None:
    """Check what decoding a picture costs.

    Args:
        kept: samples whose coefficients the decoder keeps.
        scanned: samples of all scans together.

    Raises:
        Refused: `too_much_to_decode`.
    """
    if kept > MAX_KEPT_SAMPLES:
        raise Refused("too_much_to_decode", f"{kept} samples to keep, {MAX_KEPT_SAMPLES} allowed")
    if scanned > MAX_SCANNED_SAMPLES:
        raise Refused("too_much_to_decode", f"{scanned} samples in all scans, {MAX_SCANNED_SAMPLES} allowed")
