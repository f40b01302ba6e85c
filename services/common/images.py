"""Checks an image's structure without decoding a pixel.

JPEG after ITU-T T.81 annex B, PNG after the W3C recommendation (third edition).
"""

import itertools
import re
import struct
import zlib
from dataclasses import dataclass

from services.common.errors import Refused

MAX_PIXELS = 64_000_000
PADDING = b"\x00\xff\r\n"
MAX_PADDING_BYTES = 64 * 1024
"""What cameras and their drivers leave behind an image's end: the rest of a buffer, a protocol's line end.
Capture lets the same pass."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FILL = re.compile(rb"\xff+")
_MAX_SEGMENTS = 10_000
"""Nothing real has as many; a large image made of nothing else would keep the reader busy for seconds."""
# Within a scan 0xFF 0x00 is a stuffed byte and D0 to D7 are restart markers: neither ends it.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image says of itself: content type, width and height in pixels."""

    content_type: str
    width: int
    height: int


def inspect(image: bytes) -> ImageInfo:
    """Return an image's type and size.

    Raises:
        Refused: `not_an_image`, `bad_image` (broken structure), `truncated_image`, `trailing_bytes`
            (more than padding follows its end), or `bad_dimensions` (nothing, or more than `MAX_PIXELS`).
    """
    info, end = _measure(image)
    behind_bytes = len(image) - end
    if behind_bytes > MAX_PADDING_BYTES or image[end:].strip(PADDING):
        raise Refused("trailing_bytes", f"{behind_bytes} bytes behind the end")
    return info


def trim(image: bytes) -> tuple[bytes, ImageInfo]:
    """Return an image without what follows its end, whatever that is, with its type and size.

    For images that have no id yet: one picture is to be one object, however its buffer was filled. Besides
    padding these are a telephone's further pictures (MPF), its film of the moment, a maker's own notes: none
    of them is the picture that a viewer shows.

    Raises:
        Refused: as `inspect`, but for `trailing_bytes`.
    """
    info, end = _measure(image)
    return image[:end], info


def _measure(image: bytes) -> tuple[ImageInfo, int]:
    if image.startswith(b"\xff\xd8\xff"):
        info, end = _jpeg(image)
    elif image.startswith(_PNG_SIGNATURE):
        info, end = _png(image)
    else:
        raise Refused("not_an_image", "neither JPEG nor PNG")
    if not 0 < info.width * info.height <= MAX_PIXELS:
        raise Refused("bad_dimensions", f"{info.width}x{info.height}")
    return info, end


def _jpeg(image: bytes) -> tuple[ImageInfo, int]:
    info: ImageInfo | None = None
    position = 2
    for number in itertools.count():
        marker, position = _marker(image, position)
        if marker == _EOI:
            break
        if number >= _MAX_SEGMENTS:
            raise Refused("bad_image", f"more than {_MAX_SEGMENTS} segments")
        length = _segment_bytes(image, position)
        if marker in _START_OF_FRAME:
            if length < 8:
                raise Refused("bad_image", "short frame header")
            height, width = struct.unpack_from(">HH", image, position + 3)
            info = ImageInfo("image/jpeg", width, height)
        position += length
        if marker == _SOS:
            found = _END_OF_SCAN.search(image, position)
            if found is None:
                raise Refused("truncated_image", "no end marker")
            position = found.start()
    if info is None:
        raise Refused("bad_image", "no frame header")
    return info, position


def _segment_bytes(image: bytes, position: int) -> int:
    """Return how long the segment at `position` is, its length field included."""
    length = int.from_bytes(image[position : position + 2])
    if length < 2 or position + length > len(image):
        raise Refused("truncated_image", "ends within a segment")
    return length


def _marker(image: bytes, position: int) -> tuple[int, int]:
    """Return the marker at `position` (fill bytes skipped) and where its segment starts."""
    start = position
    if (fill := _FILL.match(image, position)) is not None:
        position = fill.end()
    if position >= len(image):
        raise Refused("truncated_image", "no end marker")
    if position == start or image[position] in (0x00, _SOI):
        raise Refused("bad_image", f"no marker at byte {start}")
    return image[position], position + 1


def _png(image: bytes) -> tuple[ImageInfo, int]:
    info: ImageInfo | None = None
    position = len(_PNG_SIGNATURE)
    for number in itertools.count():
        if position + 12 > len(image):
            break
        if number >= _MAX_SEGMENTS:
            raise Refused("bad_image", f"more than {_MAX_SEGMENTS} chunks")
        length, kind = struct.unpack_from(">I4s", image, position)
        end = position + 12 + length
        if end > len(image):
            break
        if zlib.crc32(memoryview(image)[position + 4 : end - 4]) != int.from_bytes(image[end - 4 : end]):
            raise Refused("bad_image", "wrong checksum in a chunk")
        if info is None:
            if kind != b"IHDR" or length != 13:
                raise Refused("bad_image", "no header chunk")
            info = ImageInfo("image/png", *struct.unpack_from(">II", image, position + 8))
        if kind == b"IEND":
            return info, end
        position = end
    raise Refused("truncated_image", "no end chunk")
