"""What is known about an object, as a file beside it: `face.json` for `face.jpg`.

So a folder keeps it, and so a bucket has it into which such a folder was copied by something else. Each
file is one line of JSON, as whatever queries files takes it: `metadata` is all that is known, as text; what
of it is numbers stands before it as numbers.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from services.common.storage.keys import ABOUT

MAX_BYTES = 64 * 1024
"""Much more than the attributes of any face take."""

Item = TypeVar("Item", int, float)
Numbers = int | float | list[int] | list[float]
Form = Callable[[str], Numbers | None]

_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
_REAL = re.compile(r"-?\d{1,9}(\.\d{1,20})?", re.ASCII)


def key_of(key: str) -> str:
    """Return the key of the file that tells about an object."""
    return str(PurePosixPath(key).with_suffix(ABOUT))


def write(content_type: str, metadata: Mapping[str, str]) -> bytes:
    """Return such a file's content."""
    about = {"content_type": content_type, **numbers(metadata), "metadata": dict(metadata)}
    return json.dumps(about).encode() + b"\n"


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


def numbers(metadata: Mapping[str, str]) -> dict[str, Numbers]:
    """Return what a face's attributes say in numbers.

    An attribute always has one type, and one that is not written as it should be is left out: one text among
    them would make a column of texts for whoever reads many files.
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
