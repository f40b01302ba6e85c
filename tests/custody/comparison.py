"""The bucket against what was published."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.storage.index.rows import ROOT as INDEX
from services.common.wire.faces import Face
from tests.custody.faces import key_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is wrong with a bucket, by key.

    Attributes:
        lost: published and not there.
        differing: there, with other bytes.
        duplicates: there beside another object with the same bytes.
        unexpected: there, and never published.
        excused: not there, and nobody could have it there: its only copy was destroyed on disk.
        stored_at: when each right one was written, Unix time, by id.
    """

    lost: tuple[str, ...]
    differing: tuple[str, ...]
    duplicates: tuple[str, ...]
    unexpected: tuple[str, ...]
    excused: tuple[str, ...]
    stored_at: Mapping[str, float]

    @property
    def is_perfect(self) -> bool:
        """Whether each face is there once, byte for byte, and nothing else."""
        return not (self.lost or self.differing or self.duplicates or self.unexpected)


def compare(objects: Path, faces: Iterable[Face], destroyed: Collection[str] = ()) -> Comparison:
    """Read the whole bucket.

    Args:
        objects: its folder.
        faces: what must be in it.
        destroyed: ids of those that need not be there, for a fault of the disk took them. If they are, it is
            with their own bytes, and once.
    """
    found = objects_in(objects)
    digest_of = {key: hashlib.sha256(path.read_bytes()).digest() for key, path in found.items()}
    digests = Counter(digest_of.values())
    lost: list[str] = []
    excused: list[str] = []
    differing, stored_at, expected = [], {}, set()
    for face in faces:
        key = key_of(face)
        expected.add(key)
        if key not in found:
            (excused if face.id in destroyed else lost).append(key)
        elif digest_of[key] != hashlib.sha256(face.image).digest():
            differing.append(key)
        else:
            stored_at[face.id] = found[key].stat().st_mtime
    return Comparison(
        tuple(lost),
        tuple(differing),
        tuple(key for key, digest in digest_of.items() if digests[digest] > 1),
        tuple(key for key in found if key not in expected),
        tuple(excused),
        stored_at,
    )


def objects_in(folder: Path) -> dict[str, Path]:
    """Return all objects by key, but for the store's probe, its index and the server's own files."""
    paths = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return {
        key.as_posix(): path
        for key, path in paths
        if not key.parts[0].startswith(".") and key.parts[0] != INDEX
    }
