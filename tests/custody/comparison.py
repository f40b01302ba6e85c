"""The bucket against what was published."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.faces import Face
from tests.custody.faces import key_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is wrong with a bucket, by key.

    Attributes:
        lost: published and not there.
        differing: there, with other bytes.
        duplicates: there beside another object with the same bytes.
        unexpected: there, and never published.
        stored_at: when each right one was written, Unix time, by id.
    """

    lost: tuple[str, ...]
    differing: tuple[str, ...]
    duplicates: tuple[str, ...]
    unexpected: tuple[str, ...]
    stored_at: Mapping[str, float]

    @property
    def is_perfect(self) -> bool:
        """Whether each face is there once, byte for byte, and nothing else."""
        return not (self.lost or self.differing or self.duplicates or self.unexpected)


def compare(objects: Path, numbers: Mapping[str, int], make: Callable[[int], Face]) -> Comparison:
    """Read the whole bucket.

    Args:
        objects: its folder.
        numbers: which face each published id is.
        make: returns the face of a number.
    """
    found = objects_in(objects)
    lost, differing, stored_at, digests = [], [], {}, Counter[bytes]()
    digest_of = {}
    for key, path in found.items():
        digest_of[key] = hashlib.sha256(path.read_bytes()).digest()
        digests[digest_of[key]] += 1
    expected = set()
    for face_id, number in numbers.items():
        face = make(number)
        key = key_of(face)
        expected.add(key)
        if key not in found:
            lost.append(key)
        elif digest_of[key] != hashlib.sha256(face.image).digest():
            differing.append(key)
        else:
            stored_at[face_id] = found[key].stat().st_mtime
    return Comparison(
        tuple(lost),
        tuple(differing),
        tuple(key for key, digest in digest_of.items() if digests[digest] > 1),
        tuple(key for key in found if key not in expected),
        stored_at,
    )


def objects_in(folder: Path) -> dict[str, Path]:
    """Return all objects by key, but for the store's probe and the server's own files."""
    paths = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return {key.as_posix(): path for key, path in paths if not key.parts[0].startswith(".")}
