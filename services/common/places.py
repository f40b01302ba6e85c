"""Names of files in URLs. A name is bytes: it need not be UTF-8, and may hold all but NUL and `/`."""

import os
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes


def file_url(path: str | Path) -> str:
    """Return the `file://` URL of a path, which is made absolute; ASCII, whatever the name is."""
    return f"file://{quote(os.fsencode(Path(path).absolute()))}"


def unquote_path(text: str) -> str:
    """Return the path that stands in a URL, as Python names files: what is not UTF-8 as lone surrogates."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))
