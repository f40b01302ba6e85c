"""What goes between detect and the process that decodes heavy pictures: a few facts, and bytes.

A parcel is the length of its facts and the length of its bytes (big-endian, 32 bits each), the facts as JSON,
and the bytes. Nothing in it is run or built on arrival: the other end may have been broken into.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

HEAD = struct.Struct(">II")
MAX_FACTS_BYTES = 4 * 1024 * 1024
MAX_OTHER_BYTES = 256 * 1024 * 1024

Facts = Mapping[str, Any]


def pack(facts: Facts, *pieces: bytes) -> list[bytes]:
    """Return a parcel, in pieces to be written one after the other."""
    text = json.dumps(facts, separators=(",", ":")).encode()
    return [HEAD.pack(len(text), sum(map(len, pieces))), text, *pieces]


def read_head(head: bytes) -> tuple[int, int]:
    """Return how many bytes of facts and how many others follow.

    Raises:
        ValueError: that much is never sent.
    """
    facts_bytes, other_bytes = HEAD.unpack(head)
    if facts_bytes > MAX_FACTS_BYTES or other_bytes > MAX_OTHER_BYTES:
        raise ValueError(f"{facts_bytes} bytes of facts and {other_bytes} others")
    return facts_bytes, other_bytes


def read_facts(text: bytes) -> Facts:
    """Return a parcel's facts.

    Raises:
        ValueError, TypeError: they are none.
    """
    facts = json.loads(text)
    return dict(facts)
