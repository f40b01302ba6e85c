"""Checks a PNG's structure and size, without decoding a pixel (PNG, third edition, W3C)."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from services.common.errors import Refused

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_DECODED_BYTES = 256 * 1024 * 1024
"""64 megapixels of 8 bits and four channels."""
MAX_NOTES_BYTES = 4 * 1024 * 1024
"""The most that colour profile and texts may inflate to, together. Printers' profiles have a megabyte."""
MAX_COUNTED_BYTES = 16 * 1024 * 1024
"""Up to here pixels are inflated to count them, which takes hundredths of a second. For larger pictures the
header is trusted: to inflate them would be a denial of service of our own.
"""

_MAX_CHUNKS = 10_000
"""Nothing real has as many; a large image made of nothing else would keep the reader busy for seconds."""
_MOST_INFLATED = 1032
"""Deflate's highest ratio; see zlib's technical notes."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")


class Header(NamedTuple):
    """A PNG's header.

    Attributes:
        width: in pixels.
        height: in pixels.
        decoded_bytes: the most that its pixels inflate to, with each line's filter byte.
    """

    width: int
    height: int
    decoded_bytes: int


def measure(image: bytes, max_pixels: int) -> tuple[Header, int]:
    """Return a PNG's header, and where the image ends, just after its end chunk.

    Args:
        image: the PNG; what follows its end is ignored.
        max_pixels: the most that width times height may be.

    Raises:
        Refused: `bad_image`, `truncated_image`, `bad_dimensions`, `animated_image`, or `too_much_to_decode`.
    """
    header: Header | None = None
    pixels: list[memoryview] = []
    notes_bytes = 0
    for kind, content, end in _chunks(image):
        if header is None:
            header = _header(kind, content, max_pixels)
        elif kind == b"IDAT":
            pixels.append(content)
        elif kind == b"IEND":
            _check_pixels(header, pixels)
            return header, end
        elif kind in _ANIMATION:
            raise Refused("animated_image", "a face is one picture")
        elif (note := _compressed_note(kind, content)) is not None:
            notes_bytes += _inflated_bytes([note], MAX_NOTES_BYTES - notes_bytes)
            if notes_bytes > MAX_NOTES_BYTES:
                raise Refused("too_much_to_decode", f"texts of more than {MAX_NOTES_BYTES} bytes")
        elif kind == b"IHDR":
            raise Refused("bad_image", "two header chunks")
    raise Refused("truncated_image", "no end chunk")


def _chunks(image: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield the type and the content of each complete chunk, and where the chunk ends."""
    view = memoryview(image)
    position = len(SIGNATURE)
    for number in itertools.count():
        if position + 12 > len(image):
            return
        if number >= _MAX_CHUNKS:
            raise Refused("bad_image", f"more than {_MAX_CHUNKS} chunks")
        length, kind = struct.unpack_from(">I4s", image, position)
        end = position + 12 + length
        if end > len(image):
            return
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(image[end - 4 : end]):
            raise Refused("bad_image", "wrong checksum in a chunk")
        yield kind, view[position + 8 : end - 4], end
        position = end


def _header(kind: bytes, content: memoryview, max_pixels: int) -> Header:
    if kind != b"IHDR" or len(content) != 13:
        raise Refused("bad_image", "no header chunk")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
    if not 0 < width * height <= max_pixels:
        raise Refused("bad_dimensions", f"{width}x{height}")
    if depth not in _DEPTHS.get(colour, ()):
        raise Refused("bad_image", f"no colour of type {colour} and {depth} bits")
    line_bytes = 1 + -(-width * depth * _CHANNELS[colour] // 8)
    # The seven passes of an interlaced picture have less than twice the lines, each rounded up separately.
    decoded_bytes = height * line_bytes + (4 * (height + 8) if interlaced else 0)
    if decoded_bytes > MAX_DECODED_BYTES:
        raise Refused("too_much_to_decode", f"{decoded_bytes} bytes of pixels")
    return Header(width, height, decoded_bytes)


def _check_pixels(header: Header, parts: list[memoryview]) -> None:
    """Check that there are pixels, and not many more than the header says."""
    if not parts:
        raise Refused("bad_image", "no pixels")
    if sum(map(len, parts)) * _MOST_INFLATED <= MAX_DECODED_BYTES or header.decoded_bytes > MAX_COUNTED_BYTES:
        return
    if _inflated_bytes(parts, header.decoded_bytes) > header.decoded_bytes:
        raise Refused("too_much_to_decode", "more pixels than the header says")


def _compressed_note(kind: bytes, content: memoryview) -> memoryview | None:
    """Return the compressed data of a colour profile or a text, or None for other chunks."""
    if kind not in (b"iCCP", b"zTXt", b"iTXt"):
        return None
    start = bytes(content[:80]).find(0) + 1
    if kind != b"iTXt":
        return content[start + 1 :]
    if bytes(content[start : start + 1]) != b"\1":
        return None
    language_end = bytes(content[start + 2 :]).find(0) + start + 3
    return content[bytes(content[language_end:]).find(0) + language_end + 1 :]


def _inflated_bytes(parts: list[memoryview], most: int) -> int:
    """Return how many bytes these inflate to; counting stops beyond `most`."""
    inflater = zlib.decompressobj()
    count = 0
    for part in parts:
        try:
            count += len(inflater.decompress(part, most + 1 - count))
        except zlib.error:
            # zlib does not say how much came before the error: count the most that is possible.
            return count + len(part) * _MOST_INFLATED
        if count > most or inflater.eof:
            break
    return count
