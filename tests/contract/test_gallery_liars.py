"""One device that lies about days and cameras: what everybody else sees, and what a page costs then."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from prometheus_client import REGISTRY

from services.commands import faces as faces_command
from services.common.errors import Refused
from services.common.storage import s3_signed
from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import times
from services.common.wire.topics import Source
from services.gallery import album as module
from services.gallery.album import Album
from services.gallery.arrivals import MAX_DAYS, MAX_NOTED_OF_DEVICE, Arrivals
from services.gallery.cameras import MOST_CAMERAS, MOST_DEVICES, MOST_SOURCES, limited
from services.gallery.presence import Presence
from services.gallery.selection import PageSelection
from tests.seeing import NOON, ForwardOnly, fill, note, settings_for, taken, visiting, visiting_folder
from tests.support import S3Server, eventually

TODAY = NOON.date()
HONEST = Source("porch", "front")
LIAR = "attic"
CROWD = 10_000


def key_of(source: Source, day: date, number: int = 0) -> FaceKey:
    digest = hashlib.sha256(f"{source}{number}".encode()).hexdigest()[:32]
    moment = times.compact(times.midnight(day) + timedelta(hours=6, seconds=number))
    return FaceKey(source, f"{moment}-{digest}", "image/jpeg")


def put(root: Path, key: FaceKey) -> FaceKey:
    path = root / str(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.with_suffix(".json").write_text('{"content_type": "image/jpeg", "metadata": {}}')
    return key


def today() -> date:
    return TODAY


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("faceferry_gallery_dropped_total", {"reason": reason}) or 0.0


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest camera, and a device with ten thousand invented ones on the same day."""
    root = tmp_path_factory.mktemp("faces")
    put(root, key_of(HONEST, TODAY))
    for number in range(CROWD):
        put(root, key_of(Source(LIAR, f"c{number}"), TODAY, number % 1_000))
    return root


async def test_a_face_of_the_future_is_on_nobodys_first_page_and_can_be_asked_for(tmp_path: Path) -> None:
    honest = put(tmp_path, key_of(HONEST, TODAY))
    lies = [put(tmp_path, key_of(Source(LIAR, "a"), date(2199, 1, day))) for day in (1, 2)]
    with FolderStore(tmp_path) as store:
        album = Album(store, today)
        page = await album.page(PageSelection(), 60)
        assert (page.day, page.faces, page.day_after) == (TODAY, [honest], None)
        assert page.ahead == (date(2199, 1, 1), date(2199, 1, 2))
        far = await album.page(PageSelection(day=date(2199, 1, 2)), 60)
        assert far.faces == [lies[1]]
        assert (far.day_before, far.day_after) == (date(2199, 1, 1), None)
        near = await album.page(PageSelection(day=date(2199, 1, 1)), 60)
        assert (near.day_before, near.day_after) == (TODAY, date(2199, 1, 2))


async def test_tomorrow_is_not_the_future_and_1970_is_where_it_was(tmp_path: Path) -> None:
    ahead = put(tmp_path, key_of(HONEST, TODAY + timedelta(days=1)))
    put(tmp_path, key_of(HONEST, date(1970, 1, 1)))
    with FolderStore(tmp_path) as store:
        page = await Album(store, today).page(PageSelection(), 60)
        assert (page.faces, page.day_before, page.ahead) == ([ahead], date(1970, 1, 1), ())
        unset = await Album(store, today).page(PageSelection(day=date(1970, 1, 1)), 60)
        assert unset.day_after == TODAY + timedelta(days=1)


async def test_with_days_of_the_future_alone_the_first_page_says_so(tmp_path: Path) -> None:
    put(tmp_path, key_of(HONEST, date(2199, 1, 1)))
    async with visiting_folder(tmp_path) as client, client.get("/") as answer:
        text = await answer.text()
    assert "No faces yet" in text
    assert '<a href="/?day=2199-01-01">1 day in the future</a>' in text


async def test_pages_say_that_there_are_days_in_the_future(tmp_path: Path) -> None:
    fill(tmp_path, [taken(NOON)])
    for number in range(3):
        put(tmp_path, key_of(Source(LIAR, "a"), date(2199, 1, 1 + number)))
    async with visiting_folder(tmp_path) as client:
        async with client.get("/?source=porch") as answer:
            text = await answer.text()
        assert '<a href="/?source=porch&amp;day=2199-01-01">3 days in the future</a>' in text
        assert "porch/front" in text
        async with client.get("/devices") as answer:
            devices = await answer.text()
        assert "2199" not in devices
        assert f"/face/dt={TODAY}" in devices


async def test_thousands_of_invented_days_cost_a_page_three_listings(tmp_path: Path) -> None:
    honest = put(tmp_path, key_of(HONEST, TODAY))
    old = put(tmp_path, key_of(HONEST, date(2016, 5, 5)))
    for number in range(3_000):
        for first in (date(2199, 1, 1), date(2, 1, 1)):
            (tmp_path / f"dt={first + timedelta(days=number)}").mkdir()
    with ForwardOnly(tmp_path) as store:
        calendar = await Album(store, today).calendar()
        assert store.requests <= 3
        assert calendar.days[-1] == TODAY
        assert len(calendar.ahead) == 1_000
        assert (await Album(store, today).page(PageSelection(), 60)).faces == [honest]
        asked = PageSelection(day=old.time.date())
        assert (await Album(store, today).page(asked, 60)).faces == [old]


async def test_invented_cameras_take_nobodys_room_and_a_bounded_number_of_listings(crowd: Path) -> None:
    with ForwardOnly(crowd) as store:
        page = await Album(store, today).page(PageSelection(), 200)
        assert store.requests < 10 * MOST_CAMERAS
    assert HONEST in page.sources
    assert sum(source.device == LIAR for source in page.sources) == MOST_CAMERAS
    assert page.camera_list.cut_devices == (LIAR,)
    assert key_of(HONEST, TODAY) in page.faces


async def test_a_page_says_that_there_are_more_cameras_and_shows_one_that_is_named(crowd: Path) -> None:
    async with visiting_folder(crowd) as client:
        async with client.get(f"/?day={TODAY}") as answer:
            text = await answer.text()
        assert f"{LIAR} has more than {MOST_CAMERAS} cameras" in text
        assert '<input name="source" list="cameras"' in text
        cameras = text.partition('<datalist id="cameras">')[2].partition("</datalist>")[0]
        assert cameras.count("<option") == MOST_CAMERAS + 1
        async with client.get(f"/?source={LIAR}/c9876&day={TODAY}") as answer:
            named = await answer.text()
        assert str(key_of(Source(LIAR, "c9876"), TODAY, 876)) in named
        async with client.get("/devices") as answer:
            devices = await answer.text()
        assert devices.count('<li class="camera">') <= MOST_CAMERAS + 1
        assert f"{LIAR} has more than {MOST_CAMERAS} cameras" in devices


async def test_a_real_bucket_with_invented_cameras_is_asked_a_bounded_number_of_times(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = bucket.folder / "faces" / "some" / "prefix"
    put(root, key_of(HONEST, TODAY))
    for number in range(2_500):
        put(root, key_of(Source(LIAR, f"c{number}"), TODAY))
    asked = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def count(*found: Any, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return real(*found, **options)

        return count

    monkeypatch.setattr(obstore, "list", counted(obstore.list))
    monkeypatch.setattr(obstore, "list_with_delimiter_async", counted(obstore.list_with_delimiter_async))
    monkeypatch.setattr(s3_signed, "_ask", counted(s3_signed._ask))
    async with open_store(ObjectStoreSettings(store_url="s3://faces/some/prefix")) as store:
        page = await Album(store, today).page(PageSelection(), 100)
    assert len(page.sources) == MOST_CAMERAS + 1
    assert page.faces
    assert asked < 10 * MOST_CAMERAS


@pytest.mark.parametrize("devices", [MOST_DEVICES + 5, 10, 1])
def test_of_many_cameras_each_device_has_its_share(devices: int) -> None:
    everybody = {f"d{number:03}": [f"c{camera}" for camera in range(100)] for number in range(devices)}
    camera_list = limited(everybody)
    counts = [sum(source.device == device for source in camera_list.sources) for device in everybody]
    assert len(camera_list.sources) == min(MOST_SOURCES, devices * MOST_CAMERAS)
    assert max(counts[:MOST_DEVICES]) - min(counts[:MOST_DEVICES]) <= 1
    assert not camera_list.is_complete


async def test_cameras_that_do_not_answer_in_time_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    fill(tmp_path, [taken(NOON), taken(NOON, Source(LIAR, "slow"))])

    class Stuck(FolderStore):
        async def reverse_entries(self, folder: str, **bounds: Any) -> AsyncIterator[Any]:
            if LIAR in folder:
                await asyncio.sleep(60)
            async for entry in super().reverse_entries(folder, **bounds):
                yield entry

    with Stuck(tmp_path) as store:
        async with visiting(store, settings_for(tmp_path)) as (client, _sight), client.get("/") as answer:
            text = await answer.text()
    assert "could not be looked at in time" in text
    assert "Face from porch/front" in text


def test_states_of_invented_cameras_take_nobodys_room() -> None:
    presence = Presence()
    refused = 0
    for number in range(CROWD):
        try:
            note(presence, f"faceferry/{LIAR}/c{number}/status", b"online")
        except Refused as refusal:
            refused += refusal.reason == "too_many_cameras"
    note(presence, f"faceferry/{LIAR}/forward/status", b"online")
    note(presence, "faceferry/porch/front/status", b"online")
    assert refused == CROWD - MOST_CAMERAS
    assert presence.cameras[HONEST] == "online"
    note(presence, f"faceferry/{LIAR}/c0/status", b"")
    assert note(presence, f"faceferry/{LIAR}/new/status", b"online") is not None


@asynccontextmanager
async def announcing(store: FolderStore) -> AsyncIterator[tuple[Arrivals, list[FaceKey]]]:
    told: list[FaceKey] = []
    arrivals = Arrivals(store, told.extend, today)
    task = asyncio.create_task(arrivals.run(0.01))
    yield arrivals, told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_receipts_of_the_future_and_of_invented_days_and_cameras_are_bounded(tmp_path: Path) -> None:
    honest = put(tmp_path, key_of(HONEST, TODAY))
    far = put(tmp_path, key_of(Source(LIAR, "a"), date(2199, 1, 1)))
    before = {reason: dropped(reason) for reason in ("in_future", "too_many_days", "slow_store")}
    with ForwardOnly(tmp_path) as store:
        async with announcing(store) as (arrivals, told):
            arrivals.note(LIAR, [far.id])
            arrivals.note(
                LIAR, [key_of(Source(LIAR, "a"), date(1, 1, 1) + timedelta(days=n)).id for n in range(5_000)]
            )
            arrivals.note("porch", [honest.id])
            await eventually(lambda: told)
            assert store.requests < 20
    assert told == [honest]
    assert dropped("in_future") == before["in_future"] + 1
    assert dropped("slow_store") == before["slow_store"] + 5_000 - MAX_NOTED_OF_DEVICE
    assert dropped("too_many_days") == before["too_many_days"] + MAX_NOTED_OF_DEVICE - MAX_DAYS


def test_the_list_of_faces_leaves_the_future_out_unless_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse  # noqa: PLC0415 - as the command line does

    put(tmp_path, key_of(HONEST, TODAY))
    put(tmp_path, key_of(HONEST, date(2199, 1, 1)))
    parser = argparse.ArgumentParser()
    faces_command.add_arguments(parser)
    for more, first, told in ([], f"{TODAY}", "1 days in the future"), (["--future"], "2199-01-01", ""):
        options = parser.parse_args(["--store", str(tmp_path), "--limit", "1", *more])
        assert options.run(options) == 0
        out, err = capsys.readouterr()
        assert out.startswith(first)
        assert told in err
