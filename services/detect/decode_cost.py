"""Which pictures are light: decoding them takes a known and small time, whatever their bytes are.

A picture of a single scan costs by its pixels. One of several scans costs by what they go through, and there
can be no more of them than start marks. All others, and all whose headers leave room for doubt, are heavy.
"""

from services.common.errors import Refused
from services.common.images import structure
from services.common.images.jpeg import (
    MAX_SCANS,
    SOI,
    SOS,
    START_OF_FRAME,
    FrameHeader,
    check_work,
    read_frame_header,
    segments,
)

CHEAP_PIXELS = 4096 * 4096
CHEAP_SAMPLES = 128_000_000
"""What all scans may go through together: progressive pictures of up to eight megapixels have less."""

_START_MARK = bytes([0xFF, SOI])
_SCAN_MARK = bytes([0xFF, SOS])
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
# What decoders pass over or keep a little of. Any other marker may mean something else to them than to us.
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
_MOST_COMPONENTS = 4


def is_cheap(jpeg: bytes) -> bool:
    """Say whether a frame is decoded, or found to be no picture, within a known and small time."""
    if not jpeg.startswith(_START_MARK) or _SCAN_MARK not in jpeg:
        return True  # there is nothing to decode
    frame: FrameHeader | None = None
    for marker, start, end in segments(jpeg):
        if marker == SOS:
            return frame is not None and _is_light(frame, jpeg, scan_components=jpeg[start])
        if marker in START_OF_FRAME and frame is None:
            try:
                frame = read_frame_header(marker, jpeg[start:end])
            except Refused:
                return False
        elif marker not in _HARMLESS:
            return False
    return False


def check_cost(jpeg: bytes, width: int, height: int) -> None:
    """Check what decoding takes, however broken the picture is.

    Args:
        jpeg: the picture.
        width: as the decoder reads it, in pixels.
        height: likewise.

    Raises:
        Refused: `too_many_scans` or `too_much_to_decode`.
    """
    try:
        structure.trim(jpeg)
    except Refused as refusal:
        if refusal.reason in ("too_many_scans", "too_much_to_decode"):
            raise
        # Decoders go on where the structure is broken: the most that they can find is what counts.
        scans = jpeg.count(_SCAN_MARK)
        if scans > MAX_SCANS:
            raise Refused("too_many_scans", f"up to {scans}, {MAX_SCANS} allowed") from refusal
        samples = width * height * _MOST_COMPONENTS
        check_work(samples if scans > 1 else 0, samples * scans)


def _is_light(frame: FrameHeader, jpeg: bytes, scan_components: int) -> bool:
    if frame.marker not in _HUFFMAN or frame.precision != 8 or frame.width * frame.height > CHEAP_PIXELS:
        return False
    if not frame.keeps_coefficients(scan_components):
        return True
    scans = jpeg.count(_SCAN_MARK)
    return scans <= MAX_SCANS and scans * frame.samples <= CHEAP_SAMPLES
