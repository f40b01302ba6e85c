"""Base64 in its one canonical spelling (RFC 4648, section 3.5), so that no byte of signed text may change."""

import base64


def decode(text: str, *, is_padded: bool = True) -> bytes:
    """Return the bytes that `text` is the canonical spelling of; empty for any other text.

    Args:
        text: from whatever source.
        is_padded: whether `=` fills the text up to whole groups of four; else there is none.
    """
    try:
        found = base64.b64decode(text if is_padded else text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""
    spelling = base64.b64encode(found).decode()
    return found if text == (spelling if is_padded else spelling.rstrip("=")) else b""
