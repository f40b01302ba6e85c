"""A day with tens of thousands of faces costs a page no more than what it shows."""

import hashlib
import itertools
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey, camera_folder, parse_key
from services.common.storage.listing import LISTINGS_AT_A_TIME, newest_first
from services.common.storage.objects import ListedObject
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import times
from services.common.wire.topics import Source
from services.gallery.album import Album
from services.gallery.counts import Counts
from services.gallery.selection import PageSelection
from tests.seeing import NOON, ForwardOnly
from tests.support import S3Server

DAY = NOON.date()
FACES = 30_000
CROWDED = Source("porch", "front")
QUIET = Source("porch", "yard")
PAGE = 60
MB = 1_000_000


def key_of(source: Source, step: int) -> FaceKey:
    """A face of the crowded day: one every 2.5 seconds, all day long."""
    at = NOON.replace(hour=0) + timedelta(seconds=2.5 * step)
    digest = hashlib.sha256(f"{source}{step}".encode()).hexdigest()[:32]
    return FaceKey(source, f"{times.compact(at)}-{digest}", "image/jpeg")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder store in which one camera has seen very many on one day, and another very few."""
    root = tmp_path_factory.mktemp("faces")
    for source, steps in ((CROWDED, range(FACES)), (QUIET, range(0, FACES, 1_000))):
        (root / camera_folder(source, DAY.isoformat())).mkdir(parents=True)
        for step in steps:
            path = root / str(key_of(source, step))
            path.touch()
            path.with_suffix(".json").touch()
    return root


@pytest.fixture
def forward_only(root: Path) -> Iterator[ForwardOnly]:
    with ForwardOnly(root) as store:
        yield store


async def first_page(store: FolderStore) -> None:
    page = await Album(store).page(PageSelection(), PAGE)
    assert len(page.faces) == PAGE


async def page_in_the_middle(store: FolderStore) -> None:
    page = await Album(store).page(PageSelection(day=DAY, before="20260314T070000.000000Z"), PAGE)
    assert len(page.faces) == PAGE
    assert page.newer is not None
    above = await Album(store).page(page.newer, PAGE)
    assert above.faces[-1].id > page.faces[0].id


async def adjacent(store: FolderStore) -> None:
    found = await Album(store).adjacent(key_of(CROWDED, 12_345))
    assert found == (key_of(CROWDED, 12_346), key_of(CROWDED, 12_344))


async def newest_forty(store: FolderStore) -> None:
    found = []
    async for face in newest_first(store):
        found.append(face)
        if len(found) == 40:
            break
    wanted = {key_of(CROWDED, step).id for step in range(FACES - 39, FACES)}
    assert wanted < {face.id for face in found}


LOOKS = [first_page, page_in_the_middle, adjacent, newest_forty]


@pytest.mark.parametrize("look", LOOKS)
async def test_from_a_bucket_only_what_lies_near_is_read(
    forward_only: ForwardOnly, look: Callable[[FolderStore], Coroutine[Any, Any, None]]
) -> None:
    await look(forward_only)
    assert forward_only.requests <= 16
    # An answer of S3 has a thousand names, asked for or not.
    assert forward_only.read <= 5_000


async def test_a_real_bucket_gives_a_page_in_a_few_answers(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket.folder / "faces" / camera_folder(CROWDED, DAY.isoformat())).mkdir(parents=True)
    for step in range(0, FACES, 6):
        (bucket.folder / "faces" / str(key_of(CROWDED, step))).write_bytes(b"a face")
    answers: list[int] = []
    listed: Callable[..., Any] = obstore.list

    async def counted(*found: object, **options: Any) -> AsyncIterator[Any]:
        async for answer in listed(*found, **options):
            answers.append(len(answer))
            yield answer

    monkeypatch.setattr(obstore, "list", counted)
    async with open_store(ObjectStoreSettings(store_url="s3://faces")) as store:
        page = await Album(store).page(PageSelection(), PAGE)
        newest = [key_of(CROWDED, step) for step in range(FACES - 6, 0, -6)]
        assert page.faces == newest[:PAGE]
        assert sum(answers) <= 2_500
        found = await Album(store).adjacent(newest[3_000])
        assert found == (newest[2_999], newest[3_001])
        assert len(answers) <= 8
        assert await Counts(store).within([CROWDED], DAY, 60.0) is not None


@pytest.mark.parametrize("look", LOOKS)
async def test_from_a_folder_no_more_is_kept_in_memory_than_is_shown(
    root: Path, look: Callable[[FolderStore], Coroutine[Any, Any, None]]
) -> None:
    with FolderStore(root) as store:
        await look(store)  # what is loaded once
        tracemalloc.start()
        try:
            await look(store)
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 1 * MB


async def test_a_page_and_its_chart_take_little_of_the_event_loops_time(root: Path) -> None:
    with FolderStore(root) as store:
        counts = Counts(store)
        began_s = time.thread_time()
        await first_page(store)
        await adjacent(store)
        by_hour = await counts.within([CROWDED, QUIET], DAY, 60.0)
        took_s = time.thread_time() - began_s
    assert by_hour is not None
    assert sum(by_hour) == FACES + FACES // 1_000
    assert took_s < 0.15


async def test_counting_asks_for_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = itertools.count()
    stat = Path.stat

    def counted(path: Path, **options: bool) -> Any:
        next(asked)
        return stat(path, **options)

    with FolderStore(root) as store:
        counts = Counts(store)
        monkeypatch.setattr(Path, "stat", counted)
        assert await counts.within([CROWDED], DAY, 60.0) is not None
    assert next(asked) == 0


async def test_of_many_cameras_a_few_are_read_at_a_time(tmp_path: Path) -> None:
    cameras = [Source(f"house-{number % 7}", f"camera-{number}") for number in range(100)]
    for source in cameras:
        path = tmp_path / str(key_of(source, 5))
        path.parent.mkdir(parents=True)
        path.touch()

    class Busy(FolderStore):
        now = most = 0

        async def reverse_entries(
            self, folder: str, *, before: str = "", at_once: int = 64
        ) -> AsyncIterator[ListedObject]:
            self.now += 1
            self.most = max(self.most, self.now)
            found = [entry async for entry in super().reverse_entries(folder, before=before, at_once=at_once)]
            self.now -= 1
            for entry in found:
                yield entry

    with Busy(tmp_path) as store:
        album = Album(store)
        assert len([face async for face in newest_first(store)]) == len(cameras)
        assert len((await album.page(PageSelection(), 200)).faces) == len(cameras)
        assert None not in await album.newest_faces(cameras, [DAY])
        assert store.most <= LISTINGS_AT_A_TIME


async def test_all_faces_of_a_crowded_day_are_listed_once(forward_only: ForwardOnly) -> None:
    found = [face.key async for face in newest_first(forward_only)]
    assert len(found) == len(set(found)) == FACES + FACES // 1_000
    assert all(parse_key(key) is not None for key in found)
    assert all(
        one.rpartition("/")[2][:22] >= other.rpartition("/")[2][:22]
        for one, other in itertools.pairwise(found)
    )
    # Each name is read once, or twice where blocks meet.
    assert forward_only.read < 3 * FACES
