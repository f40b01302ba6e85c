"""What is known about an object, as a file beside it: `face.json` for `face.jpg`.

So a folder keeps it, and so a bucket has it into which such a folder was copied by something else.
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from services.common.storage.keys import ABOUT

MAX_BYTES = 64 * 1024
"""Much more than the attributes of any face take."""


def key_of(key: str) -> str:
    """Return the key of the file that tells about an object."""
    return str(PurePosixPath(key).with_suffix(ABOUT))


def write(content_type: str, metadata: Mapping[str, str]) -> bytes:
    """Return such a file's content."""
    return json.dumps({"content_type": content_type, "metadata": dict(metadata)}, indent=1).encode() + b"\n"


def read(content: bytes) -> tuple[str, dict[str, str]]:
    """Return an object's content type and metadata.

    Raises:
        ValueError: the file is damaged, or another.
    """
    try:
        about = json.loads(content)
    except RecursionError as error:
        raise ValueError("no file about a face") from error
    match about:
        case {"content_type": str(content_type), "metadata": dict(metadata)} if all(
            isinstance(value, str) for value in metadata.values()
        ):
            return content_type, metadata
    raise ValueError("no file about a face")
