import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.storage.folder import FolderStore
from services.common.storage.listing import FaceName, StoredFace, newest_first, which_are_stored
from services.common.storage.objects import ListedObject, StoredObject
from services.common.wire import faces
from services.common.wire.faces import Face
from services.common.wire.topics import Source
from services.store.admission import to_object
from tests.storing import PORCH, TIME, jpeg

GARDEN = Source("garden", "back")


class Watched(FolderStore):
    """Notes which folders are listed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.listed: list[str] = []

    async def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        self.listed.append(folder)
        async for entry in super().entries(folder):
            yield entry

    def reverse_entries(
        self, folder: str, *, before: str = "", at_once: int = 64
    ) -> AsyncIterator[ListedObject]:
        self.listed.append(folder)
        return super().reverse_entries(folder, before=before, at_once=at_once)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    with Watched(tmp_path) as store:
        await store.verify()
        yield store


def taken(minutes: int, source: Source = PORCH) -> Face:
    """A face out of a frame so many minutes after `TIME`, which is just before midnight."""
    return faces.mint(source, TIME + timedelta(minutes=minutes), jpeg(), "image/jpeg", {})


def name(face: Face) -> FaceName:
    return FaceName(*face.source, face.id)


async def listed(store: Watched, count: int | None = None) -> list[StoredFace]:
    found: list[StoredFace] = []
    if count != 0:
        async for face in newest_first(store):
            found.append(face)
            if len(found) == count:
                break
    return found


async def test_faces_are_listed_newest_first_over_days_and_cameras(store: Watched) -> None:
    stored = [taken(minutes, source) for minutes in (-3, -1, 1, 3) for source in (PORCH, GARDEN)]
    for face in stored:
        await store.put(to_object(face))
    found = await listed(store)
    assert {face.id for face in found} == {face.id for face in stored}
    assert all(one.time >= other.time for one, other in itertools.pairwise(found))
    newest = found[0]
    assert newest.time == TIME + timedelta(minutes=3)
    assert newest.bytes == len(jpeg())
    assert newest.key == f"dt=2026-02-01/device={newest.device}/camera={newest.camera}/{newest.id}.jpg"


async def test_days_are_listed_only_as_they_are_reached(store: Watched) -> None:
    for minutes in (-1, 1):
        await store.put(to_object(taken(minutes)))
    assert len(await listed(store, 1)) == 1
    assert store.listed == [to_object(taken(1)).key.rpartition("/")[0]]


async def test_what_is_no_face_is_not_listed(store: Watched) -> None:
    folder = to_object(taken(0)).key.rpartition("/")[0]
    await store.put(StoredObject(f"{folder}/holiday.jpg", b"x", "image/jpeg", {}))
    assert await listed(store) == []


async def test_of_some_faces_those_in_the_store_are_found(store: Watched) -> None:
    here = [taken(minutes, source) for minutes in (-1, 0, 1) for source in (PORCH, GARDEN)]
    for face in here:
        await store.put(to_object(face))
    elsewhere = [name(taken(7)), name(taken(1_000_000)), name(taken(0))._replace(camera="yard")]
    wanted = [*map(name, here[:4]), *elsewhere]
    store.listed.clear()
    assert await which_are_stored(store, wanted) == set(map(name, here[:4]))
    assert len(store.listed) == len({(face.device, face.camera, face.id[:8]) for face in wanted})


async def test_an_empty_store_has_no_faces(store: Watched) -> None:
    assert await listed(store) == []
    assert await which_are_stored(store, []) == set()
