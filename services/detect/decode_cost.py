"""What decoding a JPEG costs: a cheap one takes a known and small time, whatever its bytes are.

The cost of a picture with a single scan depends on its pixels; with several scans, on the samples that they
go through together, and there can be no more scans than start-of-scan marks. All other pictures, and all
whose headers leave doubt, count as costly.
"""

from services.common.errors import Refused
from services.common.images import structure
from services.common.images.jpeg import (
    MAX_SCANS,
    SOI,
    SOS,
    START_OF_FRAME,
    FrameHeader,
    check_samples,
    read_frame_header,
    segments,
)

CHEAP_PIXELS = 4096 * 4096
CHEAP_SAMPLES = 128_000_000
"""Samples that all scans may go through together: progressive pictures up to eight megapixels have fewer."""

_START_MARK = bytes([0xFF, SOI])
_SCAN_MARK = bytes([0xFF, SOS])
_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
# Segments that decoders skip or read little of. They may take any other marker for something else.
_HARMLESS = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
_MOST_COMPONENTS = 4


def is_cheap(jpeg: bytes) -> bool:
    """Say whether a JPEG is decoded, or found to be none, within a known and small time."""
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
    """Check that decoding a costly picture stays within bounds, however broken the picture is.

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
        # Decoders go on behind a broken structure: count the most that they could find.
        scans = jpeg.count(_SCAN_MARK)
        if scans > MAX_SCANS:
            raise Refused("too_many_scans", f"up to {scans}, {MAX_SCANS} allowed") from refusal
        samples = width * height * _MOST_COMPONENTS
        check_samples(samples if scans > 1 else 0, samples * scans)


def _is_light(frame: FrameHeader, jpeg: bytes, scan_components: int) -> bool:
    if frame.marker not in _HUFFMAN or frame.precision != 8 or frame.width * frame.height > CHEAP_PIXELS:
        return False
    if not frame.keeps_coefficients(scan_components):
        return True
    scans = jpeg.count(_SCAN_MARK)
    return scans <= MAX_SCANS and scans * frame.samples <= CHEAP_SAMPLES
