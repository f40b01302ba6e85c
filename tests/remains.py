"""Pictures that are known again by any 100 bytes of them, and a search for what is left of them in files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tests.storing import jpeg

MARK_BYTES = 32
_COMMENT = b"\xff\xfe"


def mark(number: int) -> bytes:
    """What the picture of this number consists of, over and over."""
    return hashlib.sha256(f"picture {number}".encode()).digest()


def picture(number: int, size_bytes: int = 20_000) -> bytes:
    """A whole JPEG, nearly all of which is a comment full of its mark."""
    filler = (mark(number) * (size_bytes // MARK_BYTES + 1))[:size_bytes]
    head, rest = jpeg()[:2], jpeg()[2:]
    return head + _COMMENT + (size_bytes + 2).to_bytes(2) + filler + rest


def remains(root: Path, numbers: Iterable[int]) -> dict[str, list[int]]:
    """Which pictures any file under a folder has a part of, by the file's path below it."""
    marks = {number: mark(number) for number in numbers}
    found: dict[str, list[int]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if here := [number for number, each in marks.items() if each in content]:
                found[str(path.relative_to(root))] = here
    return found
