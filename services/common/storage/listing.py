"""What is stored: listed newest first, or looked up. Reads the store and nothing else."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.common.storage.keys import day_folder, parse_key, source_folder
from services.common.storage.objects import Entry, ObjectStore
from services.common.topics import Source


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A face in the store.

    Attributes:
        id: the face's id.
        time: when the frame was taken, UTC.
        device: the camera's device.
        camera: the camera.
        key: its name under the store's URL.
        bytes: size of the image.
    """

    id: str
    time: datetime
    device: str
    camera: str
    key: str
    bytes: int


class FaceName(NamedTuple):
    """What tells a face from all others."""

    device: str
    camera: str
    id: str


async def newest_first(objects: ObjectStore) -> AsyncIterator[StoredFace]:
    """Yield all faces, those of the newest frames first. A day is listed when it is reached, not before."""
    days = await objects.folders("")
    for day in sorted((day for day in days if day.startswith(day_folder(""))), reverse=True):
        found = [face async for entry in objects.entries(day) if (face := _to_face(entry)) is not None]
        for face in sorted(found, key=lambda face: (face.time, face.key), reverse=True):
            yield face


async def which_are_stored(objects: ObjectStore, faces: Iterable[FaceName]) -> set[FaceName]:
    """Return those of `faces` that are in the store: one listing for each camera and day among them."""
    by_folder: defaultdict[str, set[FaceName]] = defaultdict(set)
    for face in faces:
        by_folder[source_folder(Source(face.device, face.camera), face.id)].add(face)
    stored: set[FaceName] = set()
    for folder, wanted in by_folder.items():
        async for entry in objects.entries(folder):
            key = parse_key(entry.key)
            if key is not None:
                stored |= wanted & {FaceName(*key.source, key.id)}
    return stored


def _to_face(entry: Entry) -> StoredFace | None:
    key = parse_key(entry.key)
    if key is None:
        return None
    return StoredFace(key.id, key.time, key.source.device, key.source.camera, entry.key, entry.size_bytes)
