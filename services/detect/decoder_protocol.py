"""What goes between detect and the process that decodes heavy pictures: a few facts, and bytes.

A parcel is the length of its facts and the length of its bytes (big-endian, 32 bits each), the facts as JSON,
and the bytes. Nothing in it is run or built on arrival: the other end may have been broken into.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

LENGTHS = struct.Struct(">II")
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024

Header = Mapping[str, Any]


def encode(header: Header, *pieces: bytes) -> list[bytes]:
    """Return a parcel, in pieces to be written one after the other."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return [LENGTHS.pack(len(text), sum(map(len, pieces))), text, *pieces]


def read_lengths(lengths: bytes) -> tuple[int, int]:
    """Return how many bytes of facts and how many others follow.

    Raises:
        ValueError: that much is never sent.
    """
    header_bytes, body_bytes = LENGTHS.unpack(lengths)
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ValueError(f"{header_bytes} bytes of header and {body_bytes} of body")
    return header_bytes, body_bytes


def read_header(text: bytes) -> Header:
    """Return a parcel's facts.

    Raises:
        ValueError, TypeError: they are none.
    """
    header = json.loads(text)
    return dict(header)
