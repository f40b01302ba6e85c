"""Faces held back by a sieve, and files of a selection: over a folder, and with a store in trouble."""

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError
from aiohttp.test_utils import TestClient

from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.objects import NoSuchObject, StoredObject, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.faces import Face
from services.gallery import download, filtering
from services.gallery.album import Album
from services.gallery.download import NOTE
from services.gallery.filtering import filtered_page
from services.gallery.metrics import DOWNLOAD_CUT, REFUSED
from services.gallery.selection import FaceFilter, PageSelection
from services.store.admission import to_object
from tests.seeing import (
    CAMERAS,
    NOON,
    TOKEN,
    fill,
    pictured,
    settings_for,
    taken,
    visit_id,
    visiting,
    visiting_folder,
)

DAY = NOON.date()
Client = TestClient[Any, Any]


def visits(count: int) -> list[Face]:
    """Pictures of as many visits, a second apart, of quality 0.00 to 0.99 in turn, oldest first."""
    moments = [NOON + timedelta(seconds=number) for number in range(count)]
    return [pictured(visit_id(at, number), at, f"0.{number % 100:02}") for number, at in enumerate(moments)]


def key_of(face: Face) -> FaceKey:
    key = parse_key(to_object(face).key)
    assert key is not None
    return key


async def walked(
    album: Album, lookup: VisitLookup, start: PageSelection, way: str, count: int
) -> list[FaceKey]:
    """Every face from a page on, page by page, newest first."""
    found: list[FaceKey] = []
    here: PageSelection | None = start
    while here is not None:
        page = (await filtered_page(album, lookup, here, count)).page
        found = [*page.faces, *found] if way == "newer" else [*found, *page.faces]
        here = getattr(page, way)
    return found


@pytest.mark.parametrize("count", [7, 25, 200])
async def test_a_sieve_shows_every_face_that_passes_once_downward_and_upward(
    root: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "MOST_LOOKED_AT", 150)
    monkeypatch.setattr(filtering, "BATCH", 60)
    faces = visits(500)
    fill(root, faces)
    good = [key_of(face) for face in reversed(faces) if float(face.extensions["quality"]) >= 0.9]
    assert len(good) == 50
    with FolderStore(root) as objects:
        album, lookup = Album(objects, lambda: DAY), VisitLookup(objects)
        start = PageSelection(day=DAY, face_filter=FaceFilter(least_quality=0.9))
        assert await walked(album, lookup, start, "older", count) == good
        bottom = start.at(DAY, after="20260314T000000.000000Z")
        assert await walked(album, lookup, bottom, "newer", count) == good


async def test_a_page_looks_at_so_many_faces_and_says_that_there_are_more(
    root: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "MOST_LOOKED_AT", 150)
    fill(root, visits(500))
    async with client.get("/?quality=1") as answer:
        page = await answer.text()
    assert "300 faces were looked at for this page, and there are more" in page
    assert "No such face among them." in page
    assert 'rel="next"' in page
    assert 'value="1" selected>1 and better' in page


async def test_faces_that_are_too_small_are_held_back(root: Path, client: Client) -> None:
    small, large = taken(NOON), taken(NOON + timedelta(seconds=1), number=2)
    fill(root, [small, large])
    about = (root / str(key_of(large))).with_suffix(".json")
    known = json.loads(about.read_text())
    known["metadata"]["box"] = "10,10,120,90"
    about.write_text(json.dumps(known))
    async with client.get("/?px=90") as answer:
        page = await answer.text()
    assert large.id in page
    assert small.id not in page
    assert "90 px and more" in page
    async with client.get("/?px=91") as answer:
        assert "No such face on this day." in await answer.text()
    for bad in ("px=-1", "px=1e9", "quality=2", "quality=0.5%3Cb%3E", "px=000001"):
        async with client.get(f"/?{bad}") as answer:
            assert answer.status == 400


async def archive_of(client: Client, path: str) -> zipfile.ZipFile:
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/zip"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return zipfile.ZipFile(io.BytesIO(await answer.read()))


async def test_a_file_has_the_selection_as_it_lies_in_a_store(
    root: Path, client: Client, tmp_path: Path
) -> None:
    faces = visits(300)
    other = taken(NOON, CAMERAS[2])
    fill(root, [*faces, other])
    found = await archive_of(client, f"/download?day={DAY}&source=porch/front&quality=0.95")
    wanted = {str(key_of(face)) for face in faces if float(face.extensions["quality"]) >= 0.95}
    assert {name for name in found.namelist() if name.endswith(".jpg")} == wanted
    assert found.read(NOTE).decode().startswith("15 faces, newest first")
    found.extractall(tmp_path / "out")
    with FolderStore(tmp_path / "out") as objects:
        item = await objects.get(str(key_of(faces[99])))
    assert item.body == faces[99].image
    assert item.metadata["quality"] == "0.99"
    everything = await archive_of(client, "/download")
    assert len(everything.namelist()) == 2 * 301 + 1


async def test_a_file_has_an_end_and_says_so(
    root: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_FACES", 40)
    faces = visits(200)
    fill(root, faces)
    found = await archive_of(client, f"/download?day={DAY}")
    assert len(found.namelist()) == 2 * 40 + 1
    assert f"those before {faces[-40].id}" in found.read(NOTE).decode()


async def test_the_pictures_of_a_visit_are_one_file(root: Path, client: Client) -> None:
    visit = visit_id(NOON)
    shots = [
        pictured(visit, NOON + timedelta(seconds=number), "0.500", str(number + 1)) for number in range(3)
    ]
    fill(root, [*shots, taken(NOON + timedelta(seconds=9))])
    found = await archive_of(client, f"/download/{key_of(shots[1])}")
    assert [name for name in found.namelist() if name.endswith(".jpg")] == [
        str(key_of(shot)) for shot in reversed(shots)
    ]
    for path in ("/download/nothing", f"/download/{key_of(taken(NOON, CAMERAS[1]))}"):
        async with client.get(path) as answer:
            assert answer.status == 404


async def test_nothing_is_loaded_without_the_token(root: Path) -> None:
    fill(root, visits(3))
    async with visiting_folder(root, gallery_token=TOKEN) as client:
        for path in ("/download", f"/download/{key_of(visits(3)[0])}"):
            async with client.get(path) as answer:
                assert answer.status == 401


class Failing(FolderStore):
    """Cannot be read any more after some images."""

    left = 10

    async def get(self, key: str) -> StoredObject:
        self.left -= 1
        if self.left < 0:
            raise StoreUnavailable("unreachable", "gone")
        return await super().get(key)


async def test_a_file_that_cannot_be_finished_does_not_pass_for_a_whole(root: Path) -> None:
    fill(root, visits(50))
    before = DOWNLOAD_CUT.labels("unreachable")._value.get()
    with Failing(root) as objects:
        async with visiting(objects, settings_for(root)) as (client, _sight):
            with pytest.raises(ClientError):
                async with client.get("/download") as answer:
                    await answer.read()
            async with client.get("/") as answer:  # and the next page is answered
                assert answer.status == 200
    assert DOWNLOAD_CUT.labels("unreachable")._value.get() == before + 1


async def test_so_many_files_are_made_at_a_time(root: Path, client: Client) -> None:
    fill(root, visits(3))
    refused = REFUSED.labels("too_many_downloads")._value.get()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "MOST_AT_ONCE", 0)
        async with client.get("/download") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "10"
    assert REFUSED.labels("too_many_downloads")._value.get() == refused + 1
    async with client.get("/download") as answer:
        assert answer.status == 200


class Losing(FolderStore):
    """Has lost one face since it was listed."""

    lost = ""

    async def get(self, key: str) -> StoredObject:
        if key == self.lost:
            raise NoSuchObject(key)
        return await super().get(key)


async def test_what_is_deleted_meanwhile_is_left_out_and_counted(root: Path) -> None:
    faces = visits(9)
    fill(root, faces)
    with Losing(root) as objects:
        objects.lost = str(key_of(faces[4]))
        async with visiting(objects, settings_for(root)) as (client, _sight):
            found = await archive_of(client, "/download")
    assert len(found.namelist()) == 2 * 8 + 1
    assert "1 were deleted while this was made." in found.read(NOTE).decode()
