"""The messages between detect and the process that decodes costly pictures.

A message is the length of its header and the length of its body (big-endian, 32 bits each), the header as a
JSON object, and the body as bytes. Reading one runs no code and builds no objects but JSON's: a malicious
picture may have taken over the other end.
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
    """Return a message, in pieces to be written one after the other; `pieces` together are its body."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return [LENGTHS.pack(len(text), sum(map(len, pieces))), text, *pieces]


def read_lengths(lengths: bytes) -> tuple[int, int]:
    """Return the lengths of the header and of the body that follow, in bytes.

    Args:
        lengths: `LENGTHS.size` bytes.

    Raises:
        ValueError: a message is never as long.
    """
    header_bytes, body_bytes = LENGTHS.unpack(lengths)
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise ValueError(f"{header_bytes} bytes of header and {body_bytes} of body")
    return header_bytes, body_bytes


def read_header(text: bytes) -> Header:
    """Return a message's header.

    Raises:
        ValueError, TypeError: it is no JSON object.
    """
    header = json.loads(text)
    return dict(header)
