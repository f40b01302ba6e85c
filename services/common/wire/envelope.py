"""Sealed pictures, as far as they can be checked without a key: files that the `age` program opens.

The format is C2SP's age.md, version 1: a header of text lines, with a stanza for each recipient, and a body
of authenticated chunks.
"""

import re
from collections.abc import Mapping

from services.common.errors import Refused

CONTENT_TYPE = "application/x-age"
INSIDE = "sealed"
"""The attribute that marks a sealed picture. Its value is the picture's type: `image/jpeg`, `image/png`."""
MEASURED = ("box", "clock", "crop", "detector", "framesize", "landmarks", "score", "sharpness")
"""Attributes that a seal authenticates. Those of a visit are not among them: they may differ when the same
face is cut again."""

INTRO = b"age-encryption.org/v1\n"
OWN_STANZA = "faceferry/v1"
NONCE_BYTES = 16
TAG_BYTES = 16
PIECE_BYTES = 64 * 1024
_MOST_HEADER_BYTES = 16 * 1024
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n"
    rb"((?:-> [\x21-\x7e]+(?: [\x21-\x7e]+)*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)+)"
    rb"--- [A-Za-z0-9+/]{43}\n"
)
_RECIPIENT = re.compile(rb"^-> X25519 [A-Za-z0-9+/]{43}\n[A-Za-z0-9+/]{43}\n", re.MULTILINE)


def header_of(data: bytes) -> bytes:
    """Return a sealed picture's header, all bytes before its body.

    Raises:
        Refused: `not_sealed`: it is no age file.
    """
    found = _HEADER.match(data[:_MOST_HEADER_BYTES])
    if found is None:
        raise Refused("not_sealed", "it does not begin as an age file does")
    return found[0]


def most_growth_bytes(image_bytes: int, keys: int) -> int:
    """Return by how many bytes at most an image grows when it is sealed for so many keys."""
    return 512 + 128 * keys + TAG_BYTES * (image_bytes // PIECE_BYTES + 1)


def check(data: bytes, attributes: Mapping[str, str]) -> None:
    """Check a sealed picture as far as that is possible without its key.

    Raises:
        Refused: `not_sealed`; `bad_content_type`: the attribute `INSIDE` is missing or wrong.
    """
    header = header_of(data)
    if _RECIPIENT.search(header) is None:
        raise Refused("not_sealed", "it has no recipient")
    body_bytes = len(data) - len(header) - NONCE_BYTES
    rest_bytes = body_bytes % (PIECE_BYTES + TAG_BYTES)
    if body_bytes <= TAG_BYTES or 0 < rest_bytes <= TAG_BYTES:
        raise Refused("not_sealed", "its body is cut off")
    if attributes.get(INSIDE) not in ("image/jpeg", "image/png"):
        raise Refused("bad_content_type", f"inside: {attributes.get(INSIDE, '')[:80]!r}")
