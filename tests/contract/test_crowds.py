"""Of many devices a page costs what it costs of some: the index says what a listing of each would."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.storage.backends import open_store
from services.common.storage.index import rows
from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey
from services.common.storage.listing import MOST_LISTED, newest_first
from services.common.storage.objects import ListedObject, StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.common.storage.visit_lookup import VisitLookup
from services.gallery.album import Album, Page
from services.gallery.cameras import DayIndex
from services.gallery.counts import Counts
from services.gallery.selection import PageSelection
from tests.contract.test_index import key_of
from tests.seeing import NOON, ForwardOnly, visiting_folder
from tests.support import S3Server, faceferry

DAY = NOON.date()
FACES = 1_200
PAGE = 60
VISIT = "20260314T110000.000000Z-0123456789abcdef"


class Counted(ForwardOnly):
    """Counts each request, as S3 would have them; the index alone may be listed whole."""

    async def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        assert folder.startswith("index/")
        found = [entry async for entry in super(ForwardOnly, self).entries(folder)]
        self.requests += max(1, -(-len(found) // 1_000))
        for entry in found:
            yield entry

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        self.requests += 1
        return await super().fetch(key, start, end)

    async def about(self, key: str) -> Mapping[str, str]:
        self.requests += 1
        return await super().about(key)


def faces_of(devices: int, count: int = FACES) -> list[FaceKey]:
    """The same moments, whoever has them: one every ten seconds up to noon, newest first."""
    return [key_of(number, NOON - timedelta(seconds=10 * number), devices) for number in range(count)]


def fill(
    root: Path, faces: list[FaceKey], in_a_file: int = 100, indexed: list[FaceKey] | None = None
) -> None:
    """Put faces into a folder, and into its index as stores do."""
    for key in faces:
        path = root / str(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a face")
        about = {"content_type": "image/jpeg", "metadata": {"id": key.id}}
        path.with_suffix(".json").write_text(json.dumps(about))
    known = {"visit": VISIT, "shot": "1", "quality": "0.5"}
    listed = [IndexRow.of(key, 6, known) for key in (faces if indexed is None else indexed)]
    for some in rows.by_hour(listed).values():
        for start in range(0, len(some), in_a_file):
            part = rows.sorted_unique(some[start : start + in_a_file])
            body = rows.encode(part)
            path = root / rows.key_for(part, body)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)


def damage(root: Path) -> None:
    for file in root.glob("index/**/*.parquet"):
        file.write_bytes(b"PAR1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def store(root: Path) -> Iterator[Counted]:
    root.mkdir()
    with Counted(root) as store:
        yield store


def album(store: Counted) -> Album:
    return Album(store, day_index=DayIndex(store, VisitLookup(store)))


async def walk(album: Album, start: PageSelection) -> list[FaceKey]:
    found: list[FaceKey] = []
    at: PageSelection | None = start
    while at is not None:
        page = await album.page(at, PAGE)
        found += page.faces
        at = page.older
    return found


async def test_a_page_costs_the_same_requests_however_many_devices_there_are(tmp_path: Path) -> None:
    requests: dict[int, dict[str, int]] = {}
    for devices in (40, 400):
        root = tmp_path / str(devices)
        root.mkdir()
        faces = faces_of(devices)
        fill(root, faces)
        with Counted(root) as store:
            looks = {
                "newest": PageSelection(),
                "middle": PageSelection(day=DAY, before=faces[500].id),
                "upward": PageSelection(day=DAY, after=faces[500].id),
                "device": PageSelection(device=faces[3].source.device),
            }
            requests[devices] = {}
            for name, look in looks.items():
                store.requests = 0
                await album(store).page(look, PAGE)
                requests[devices][name] = store.requests
            store.requests = 0
            await anext(aiter(newest_first(store)))
            requests[devices]["faces"] = store.requests
    assert requests[40] == requests[400]
    assert all(count <= 16 for count in requests[400].values()), requests


async def test_every_face_of_a_crowd_is_shown_once_newest_first(root: Path, store: Counted) -> None:
    faces = faces_of(50)
    fill(root, faces)
    assert await walk(album(store), PageSelection()) == faces
    page = await album(store).page(PageSelection(day=DAY, before=faces[300].id), PAGE)
    assert page.newer is not None
    above = await album(store).page(page.newer, PAGE)
    assert above.faces == faces[241:301]
    assert above.is_indexed


async def test_of_few_devices_what_was_stored_this_moment_is_shown(root: Path, store: Counted) -> None:
    faces = faces_of(MOST_LISTED)
    fill(root, faces, indexed=faces[10:])
    assert (await album(store).page(PageSelection(), PAGE)).faces == faces[:PAGE]
    assert (await anext(aiter(newest_first(store)))).id == faces[0].id


async def test_a_device_of_a_crowd_is_shown_as_it_is(root: Path, store: Counted) -> None:
    faces = faces_of(MOST_LISTED + 1)
    fill(root, faces, indexed=faces[400:])
    device = faces[5].source.device
    wanted = [key for key in faces if key.source.device == device]
    assert await walk(album(store), PageSelection(device=device)) == wanted
    page = await album(store).page(PageSelection(device=device, camera="front"), PAGE)
    assert page.faces == wanted[:PAGE]
    assert not page.is_indexed


@pytest.mark.parametrize("why", ["none was written", "it may not be read", "it is damaged"])
async def test_where_the_index_is_of_no_use_cameras_are_listed(
    root: Path, store: Counted, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    faces = faces_of(MOST_LISTED + 4)
    fill(root, faces, indexed=[] if why == "none was written" else None)
    if why == "it may not be read":

        async def forbidden(key: str, start: int = 0, end: int | None = None) -> bytes:
            raise StoreUnavailable("forbidden", f"{key} {start} {end}")

        monkeypatch.setattr(store, "fetch", forbidden)
    if why == "it is damaged":
        damage(root)
    page = await album(store).page(PageSelection(), PAGE)
    assert page.faces == faces[:PAGE]
    assert not page.is_indexed
    found = [face.id async for face in newest_first(store)]
    assert found == [key.id for key in faces]


async def test_the_index_tells_whose_visit_a_face_is_of(root: Path, store: Counted) -> None:
    fill(root, faces_of(40))
    lookup = VisitLookup(store)
    page = await Album(store, day_index=DayIndex(store, lookup)).page(PageSelection(), PAGE)
    before = store.requests
    pictures = await lookup.each(page.faces)
    assert store.requests == before
    assert {picture.part.visit for picture in pictures if picture.part} == {VISIT}


async def test_the_faces_of_a_crowd_are_counted_by_the_index(root: Path, store: Counted) -> None:
    fill(root, faces_of(200))
    counts = await Counts(store, DayIndex(store, VisitLookup(store)).counts).of_index_day(DAY, 5.0)
    assert counts is not None
    assert counts[8:13] == [119, 360, 360, 360, 1]
    assert sum(counts) == FACES


async def test_the_page_of_a_crowd_says_what_it_is(root: Path) -> None:
    fill(root, faces_of(40))
    async with visiting_folder(root) as client:
        text = await (await client.get(f"/?day={DAY}")).text()
        assert "faces of all devices" in text
        assert "1,200" in text
        named = await (await client.get(f"/?day={DAY}&source=device-0003/front")).text()
        assert "faces of all devices" not in named


def test_the_command_lists_a_crowd_by_the_index(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = faces_of(60, 300)
    fill(root, faces)
    assert faceferry("faces", "--store", str(root), "--limit", "0", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["key"] for line in lines] == [str(key) for key in faces]
    assert {line["bytes"] for line in lines} == {6}
    assert faceferry("faces", "--store", str(root), "--by-visit", "--limit", "0") == 0
    assert len(capsys.readouterr().out.splitlines()) == 60  # a visit lies at one camera


async def test_a_real_bucket_gives_the_page_of_a_crowd(bucket: S3Server) -> None:
    faces = faces_of(40)
    root = bucket.folder / "faces"
    fill(root, faces)
    for about in root.glob("dt=*/**/*.json"):
        about.unlink()
    async with open_store(ObjectStoreSettings(store_url="s3://faces")) as objects:
        shown: Page = await Album(objects, day_index=DayIndex(objects, VisitLookup(objects))).page(
            PageSelection(), PAGE
        )
        assert shown.faces == faces[:PAGE]
        assert shown.is_indexed
        assert [face.id async for face in newest_first(objects)] == [key.id for key in faces]
