"""An object's metadata as a file beside it: `face.json` for `face.jpg`.

Folders keep metadata so, and so do buckets into which a folder was copied by another program. Each file is
one line of JSON, which query engines read: `metadata` has all values as text; numbers stand before it as
numbers, too.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from services.common.storage.keys import ABOUT

MAX_BYTES = 64 * 1024
"""Bound on such a file; the metadata of a face take much less."""

Item = TypeVar("Item", int, float)
Numbers = int | float | list[int] | list[float]
Form = Callable[[str], Numbers | None]

_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
_REAL = re.compile(r"-?\d{1,9}(\.\d{1,20})?", re.ASCII)


def key_of(key: str) -> str:
    """Return the key of the file with an object's metadata."""
    return str(PurePosixPath(key).with_suffix(ABOUT))


def write(content_type: str, metadata: Mapping[str, str]) -> bytes:
    """Return the content of the file with an object's metadata."""
    about = {"content_type": content_type, **numbers(metadata), "metadata": dict(metadata)}
    return json.dumps(about).encode() + b"\n"


def read(content: bytes) -> tuple[str, dict[str, str]]:
    """Return an object's content type and metadata.

    Raises:
        ValueError: the file is damaged, or is not such a file.
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


def numbers(metadata: Mapping[str, str]) -> dict[str, Numbers]:
    """Return the numeric metadata of a face as numbers, by name.

    An attribute always has one type, and a malformed one is left out: a single text would make a column of
    texts for a query over many files.
    """
    found = {name: form(metadata[name]) for name, form in _FORMS.items() if name in metadata}
    return {name: value for name, value in found.items() if value is not None}


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _real(text: str) -> float | None:
    return float(text) if _REAL.fullmatch(text) else None


def _listed(of: Callable[[str], Item | None], count: int, between: str = ",") -> Form:
    def form(text: str) -> list[Item] | None:
        found = [of(part) for part in text.split(between)]
        known = [item for item in found if item is not None]
        return known if len(known) == len(found) == count else None

    return form


_FORMS: Mapping[str, Form] = {
    "score": _real,
    "sharpness": _real,
    "quality": _real,
    "shot": _whole,
    "box": _listed(_whole, 4),
    "crop": _listed(_whole, 4),
    "framesize": _listed(_whole, 2, "x"),
    "landmarks": _listed(_real, 10),
}
