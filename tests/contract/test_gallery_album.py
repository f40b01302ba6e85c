import itertools
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey, camera_folder
from services.common.storage.objects import ObjectStore
from services.common.storage.reverse_listing import MOST_AT_A_LOOK
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import Face
from services.common.wire.topics import Source
from services.gallery import reading
from services.gallery.album import Album
from services.gallery.counts import Counts
from services.gallery.selection import PageSelection
from services.store.admission import to_object
from tests.seeing import CAMERAS, NOON, ForwardOnly, fill, scattered, taken

DAY = NOON.date()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def watched(root: Path) -> Iterator[ForwardOnly]:
    with ForwardOnly(root) as store:
        yield store


async def walk(album: Album, start: PageSelection, count: int) -> list[FaceKey]:
    """Follow `older` to the end of the day."""
    found: list[FaceKey] = []
    at: PageSelection | None = start
    while at is not None:
        page = await album.page(at, count)
        found += page.faces
        at = page.older
    return found


def ids(faces: list[Face]) -> list[str]:
    return [face.id for face in sorted(faces, key=lambda face: face.id, reverse=True)]


async def test_paging_shows_every_face_once_newest_first(root: Path, watched: ForwardOnly) -> None:
    faces = scattered(500)
    fill(root, faces)
    assert [key.id for key in await walk(Album(watched), PageSelection(), 60)] == ids(faces)


async def test_paging_back_up_leads_to_the_same_pages(root: Path, watched: ForwardOnly) -> None:
    fill(root, scattered(200))
    album = Album(watched)
    down = [await album.page(PageSelection(), 60)]
    while (older := down[-1].older) is not None:
        down.append(await album.page(older, 60))
    page = down[-1]
    for above in reversed(down[:-1]):
        assert page.newer is not None
        page = await album.page(page.newer, 60)
        assert page.faces == above.faces
        assert page.older is not None
    assert page.newer is None


@pytest.mark.parametrize("seed", range(3))
async def test_a_camera_or_a_device_alone_is_what_is_left_without_the_others(
    root: Path, watched: ForwardOnly, seed: int
) -> None:
    faces = scattered(150, seed=seed)
    fill(root, faces)
    album = Album(watched)
    yard = await walk(album, PageSelection("porch", "yard", DAY), 20)
    assert [key.id for key in yard] == ids([face for face in faces if face.source == CAMERAS[1]])
    porch = await walk(album, PageSelection("porch", None, DAY), 20)
    assert [key.id for key in porch] == ids([face for face in faces if face.source.device == "porch"])


async def test_the_newest_of_a_camera_are_found_days_back(root: Path, watched: ForwardOnly) -> None:
    fill(root, [taken(NOON - timedelta(days=day), CAMERAS[day == 9]) for day in range(12)])
    page = await Album(watched).page(PageSelection("porch", "yard"), 60)
    assert page.day == DAY - timedelta(days=9)
    assert [key.source for key in page.faces] == [CAMERAS[1]]
    assert page.day_before == DAY - timedelta(days=10)
    assert page.day_after == DAY - timedelta(days=8)


async def test_an_empty_store_has_an_empty_page(watched: ForwardOnly) -> None:
    page = await Album(watched).page(PageSelection(), 60)
    assert (page.day, page.faces, page.older, page.newer) == (None, [], None, None)


async def test_a_page_costs_the_same_however_full_the_bucket_is(root: Path, watched: ForwardOnly) -> None:
    fill(root, scattered(300))
    await Album(watched).page(PageSelection(), 60)
    alone = (watched.requests, watched.read)
    fill(root, scattered(3_000, days=20, seed=2)[: -3_000 // 20 - 300])
    watched.requests = watched.read = 0
    page = await Album(watched).page(PageSelection(), 60)
    assert page.day == DAY
    assert (watched.requests, watched.read) == alone


async def test_a_page_of_a_crowded_day_lists_a_few_hundred_keys(root: Path, watched: ForwardOnly) -> None:
    moments = [NOON.replace(hour=0) + timedelta(seconds=8 * step) for step in range(10_000)]
    fill(root, [taken(at) for at in moments])
    album = Album(watched)
    page = await album.page(PageSelection(day=DAY, before="20260314T170000.000000Z"), 60)
    assert len(page.faces) == 60
    assert watched.read <= 900 + 60  # a look of 15 minutes has 112 keys, one that is wider by eight 900


async def test_a_burst_is_looked_at_in_shorter_spans(root: Path, watched: ForwardOnly) -> None:
    fill(root, [taken(NOON + timedelta(milliseconds=step)) for step in range(6_000)])
    folder = camera_folder(CAMERAS[0], DAY.isoformat())
    found = await reading.latest(watched, folder, before=None, count=10)
    assert [key.time for key in found] == [NOON + timedelta(milliseconds=5_999 - step) for step in range(10)]
    assert watched.read < 5 * MOST_AT_A_LOOK


async def test_neighbours_are_next_to_a_face_on_its_camera(root: Path, watched: ForwardOnly) -> None:
    faces = scattered(60)
    fill(root, faces)
    album = Album(watched)
    of_camera = [face for face in faces if face.source == CAMERAS[0]]
    for older, here, newer in zip(of_camera, of_camera[1:], of_camera[2:], strict=False):
        found = await album.adjacent(FaceKey(here.source, here.id, here.content_type))
        assert [key.id for key in found if key] == [newer.id, older.id]
    first = of_camera[0]
    assert (await album.adjacent(FaceKey(first.source, first.id, first.content_type)))[1] is None


async def test_hours_are_counted_and_a_page_does_not_wait_for_them(root: Path, watched: ForwardOnly) -> None:
    faces = scattered(300)
    fill(root, faces)
    counts = Counts(watched)
    expected = [sum(face.time.hour == hour for face in faces) for hour in range(24)]
    assert await counts.within(CAMERAS, DAY, 10.0) == expected
    watched.requests = 0
    assert await counts.within(CAMERAS, DAY, 0.0) == expected
    assert watched.requests == 0
    impatient = Counts(watched)
    assert await impatient.within(CAMERAS, DAY, 0.0) is None
    await impatient.close()
    await counts.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    offsets=st.lists(st.integers(0, 86_399), max_size=40),
    cursor=st.integers(0, 86_399),
    count=st.integers(1, 12),
)
async def test_what_lies_before_a_moment_is_found_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory, offsets: list[int], cursor: int, count: int
) -> None:
    root = tmp_path_factory.mktemp("day")
    midnight = NOON.replace(hour=0)
    faces = [taken(midnight + timedelta(seconds=offset)) for offset in set(offsets)]
    fill(root, faces)
    before = f"{midnight + timedelta(seconds=cursor):%Y%m%dT%H%M%S}.000000Z"
    folder = camera_folder(CAMERAS[0], DAY.isoformat())
    for kind in (FolderStore, ForwardOnly):
        with kind(root) as objects:
            found = await reading.latest(objects, folder, before=before, count=count)
        assert [key.id for key in found] == [face_id for face_id in ids(faces) if face_id < before][:count]


@pytest.mark.usefixtures("bucket")
async def test_a_bucket_is_paged_like_a_folder() -> None:
    faces = scattered(150)
    async with open_store(ObjectStoreSettings(store_url="s3://faces/some/prefix")) as objects:
        await _put_all(objects, faces)
        assert [key.id for key in await walk(Album(objects), PageSelection(), 40)] == ids(faces)
        last = await walk(Album(objects), PageSelection("lobby", "desk", DAY), 7)
        assert all(one.id > other.id for one, other in itertools.pairwise(last))
        assert await Album(objects).sources(DAY) == tuple(sorted(CAMERAS))


async def _put_all(objects: ObjectStore, faces: list[Face]) -> None:
    for face in random.Random(3).sample(faces, len(faces)):
        await objects.put(to_object(face))


async def test_names_that_are_no_cameras_are_passed_over(root: Path, watched: ForwardOnly) -> None:
    fill(root, [taken(NOON)])
    for odd in (
        f"dt={DAY}/device=<script>",
        f"dt={DAY}/device=porch/camera=..a",
        "dt=20260314",
        "dt=x",
        "tmp",
    ):
        (root / odd).mkdir(parents=True)
    page = await Album(watched).page(PageSelection(), 60)
    assert page.sources == (Source("porch", "front"),)
    assert (await Album(watched).calendar()).days == (DAY,)
