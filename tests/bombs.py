"""Small files that ask much of whoever decodes them, made by hand; and the same tricks where they do no harm.

Every scan below is empty or nearly so: decoders take what is missing for zeros and go through all blocks. In
their Huffman tables is one code, 0: that a difference is nothing, or that thousands of blocks hold nothing.
"""

import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from services.common.images.jpeg import segments

START, END = b"\xff\xd8", b"\xff\xd9"
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, HIERARCHICAL = 0xC0, 0xC1, 0xC2, 0xC3, 0xC5
ARITHMETIC, ARITHMETIC_PROGRESSIVE = 0xC9, 0xCA
_QUANTISERS = b"\0" + bytes([1] * 64)
_EMPTY_BLOCKS = b"\x7f\xff" * 100
"""A hundred runs of 32,767 blocks: the code 0, and 14 bits that are set."""


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + (2 + len(content)).to_bytes(2) + content


def frame_header(
    marker: int, width: int, height: int, factors: Sequence[int] = (0x11, 0x11, 0x11), precision: int = 8
) -> bytes:
    parts = b"".join(bytes([number + 1, factor, 0]) for number, factor in enumerate(factors))
    return segment(marker, struct.pack(">BHHB", precision, height, width, len(factors)) + parts)


def scan(
    components: Sequence[int], first: int, last: int, approximation: int = 0, data: bytes = b""
) -> bytes:
    chosen = b"".join(bytes([component, 0]) for component in components)
    header = bytes([len(components)]) + chosen + bytes([first, last, approximation])
    return segment(0xDA, header) + data.replace(b"\xff", b"\xff\0")


def tables() -> bytes:
    """One quantiser, and Huffman tables of one code each: no difference; a long run of empty blocks."""
    lengths = bytes([1, *[0] * 15])
    return (
        segment(0xDB, _QUANTISERS)
        + segment(0xC4, b"\x00" + lengths + b"\x00")
        + segment(0xC4, b"\x10" + lengths + b"\xe0")
    )


def progressive(
    width: int,
    height: int,
    scans: int,
    factors: Sequence[int] = (0x11, 0x11, 0x11),
    *,
    marker: int = PROGRESSIVE,
    before: bytes = b"",
) -> bytes:
    """A JPEG of so many scans, whose frame header `before` precedes.

    The first scan is that of the means; each other refines the details of one component, the dearest kind.
    """
    components = range(1, 1 + len(factors))
    more = [
        scan(
            [components[number % len(factors)]], 1, 63, 0x01 if number < len(factors) else 0x10, _EMPTY_BLOCKS
        )
        for number in range(scans - 1)
    ]
    head = START + tables() + before + frame_header(marker, width, height, factors)
    return head + scan(components, 0, 0) + b"".join(more) + END


def one_by_one(width: int, height: int, scans: int = 3, marker: int = BASELINE) -> bytes:
    """A sequential JPEG whose components come in scans of their own, again and again."""
    head = START + tables() + frame_header(marker, width, height)
    return head + b"".join(scan([1 + number % 3], 0, 63) for number in range(scans)) + END


def flat(width: int, height: int, marker: int = BASELINE, precision: int = 8) -> bytes:
    """A JPEG of a single scan without data."""
    header = frame_header(marker, width, height, precision=precision)
    return START + tables() + header + scan([1, 2, 3], 0, 63) + END


def with_scans(jpeg: bytes, scans: int) -> bytes:
    """A real progressive JPEG, its last scan repeated until there are so many."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (scans - jpeg.count(b"\xff\xda")) + END


def behind_start(jpeg: bytes, *inserted: bytes) -> bytes:
    return jpeg[:2] + b"".join(inserted) + jpeg[2:]


def before_scan(jpeg: bytes, *inserted: bytes) -> bytes:
    """A JPEG with something put before its first scan."""
    first = next(found for found in segments(jpeg) if found.marker == 0xDA).start - 4
    return jpeg[:first] + b"".join(inserted) + jpeg[first:]


def hidden(bomb: bytes, cover: bytes) -> bytes:
    """A bomb behind a marker without a length: who reads one there passes over it and finds the cover."""
    shown = cover[2:-2]
    assert len(bomb) < 65_000
    inside = bomb[2:-2]
    return START + b"\xff\xd0" + (2 + len(inside)).to_bytes(2) + inside + shown + END


def real_progressive(width: int = 640, height: int = 480, *parameters: int) -> bytes:
    """What an encoder makes: ten scans, colours halved."""
    chance = np.random.default_rng(7)
    picture = cv2.resize(chance.integers(0, 255, (24, 32, 3), np.uint8), (width, height))
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, *parameters]
    return cv2.imencode(".jpg", picture, options)[1].tobytes()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int,
    height: int,
    pixels: Sequence[bytes],
    *,
    depth: int = 8,
    colour: int = 2,
    interlaced: int = 0,
    notes: Sequence[bytes] = (),
) -> bytes:
    """A PNG of these compressed pieces of pixels, with other chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = b"".join(chunk(b"IDAT", piece) for piece in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(notes) + body + chunk(b"IEND")


def zeros(count: int) -> bytes:
    """So many zeros, compressed a thousandfold."""
    deflater = zlib.compressobj(9)
    parts = [deflater.compress(bytes(min(1 << 24, count - start))) for start in range(0, count, 1 << 24)]
    return b"".join(parts) + deflater.flush()
