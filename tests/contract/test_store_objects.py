"""What the store expects of whatever keeps its objects, tried on the real things."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from services.common.storage.backends import open_store
from services.common.storage.objects import (
    PROBE,
    ListedObject,
    NoSuchObject,
    ObjectStore,
    StoredObject,
    WholeStore,
)
from services.common.storage.settings import ObjectStoreSettings
from tests.storing import jpeg

DAY = "dt=2026-01-31"
FRONT = f"{DAY}/device=porch/camera=front"


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStoreSettings:
    """Settings of an empty store."""
    if request.param == "folder":
        return ObjectStoreSettings(store_url=(tmp_path / "new" / "faces").as_uri())
    request.getfixturevalue("bucket")
    return ObjectStoreSettings(store_url="s3://faces/some/prefix")


@pytest.fixture
async def objects(settings: ObjectStoreSettings) -> AsyncIterator[WholeStore]:
    """A store that has been verified."""
    async with verified(settings) as objects:
        yield objects


@asynccontextmanager
async def verified(settings: ObjectStoreSettings) -> AsyncIterator[WholeStore]:
    async with open_store(settings) as objects:
        await objects.verify()
        yield objects


def item(name: str = "a.jpg", body: bytes = jpeg()) -> StoredObject:
    metadata = {"box": "1,2,3,4", "score": "0.9", "odd": '"quotes" & <angles>; %20'}
    return StoredObject(f"{FRONT}/{name}", body, "image/jpeg", metadata)


async def keys(objects: ObjectStore, folder: str) -> list[str]:
    return sorted([entry.key async for entry in objects.entries(folder)])


async def test_an_object_comes_back_with_all_that_is_known_of_it(objects: ObjectStore) -> None:
    assert await objects.put(item())
    assert await objects.get(item().key) == item()


async def test_what_is_known_of_an_object_comes_without_it(objects: ObjectStore) -> None:
    await objects.put(item())
    assert await objects.about(item().key) == item().metadata
    for missing in (f"{FRONT}/b.jpg", "dt=2026-01-31/nowhere/b.jpg"):
        with pytest.raises(NoSuchObject):
            await objects.about(missing)


async def test_an_empty_and_a_large_object_come_back(objects: ObjectStore) -> None:
    for body in (b"", bytes(range(256)) * 40_000):
        await objects.put(item(f"{len(body)}.jpg", body))
        assert (await objects.get(f"{FRONT}/{len(body)}.jpg")).body == body


async def test_a_second_put_of_a_key_changes_nothing(objects: ObjectStore) -> None:
    assert await objects.put(item())
    assert not await objects.put(item())
    assert await keys(objects, DAY) == [item().key]


async def test_of_many_puts_of_a_key_at_once_each_is_right_and_one_is_first(objects: ObjectStore) -> None:
    async with asyncio.TaskGroup() as tasks:
        puts = [tasks.create_task(objects.put(item())) for _ in range(16)]
    assert any(put.result() for put in puts)
    assert await objects.get(item().key) == item()
    assert await keys(objects, "") == sorted([PROBE.key, item().key])


async def test_another_process_sees_what_was_put(settings: ObjectStoreSettings) -> None:
    async with verified(settings) as objects:
        await objects.put(item())
    async with verified(settings) as objects:
        assert not await objects.put(item())
        assert await objects.get(item().key) == item()


async def test_what_is_not_there_is_said_to_be_missing(objects: ObjectStore) -> None:
    with pytest.raises(NoSuchObject):
        await objects.get(item().key)
    assert await keys(objects, DAY) == []
    assert await objects.folders(DAY) == []


async def test_entries_have_keys_and_sizes_and_stay_within_their_folder(objects: ObjectStore) -> None:
    sizes = {f"{number}.jpg": number * 100 for number in range(5)}
    for name, size in sizes.items():
        await objects.put(item(name, bytes(size)))
    neighbour = StoredObject(f"{FRONT}-2/a.jpg", b"x", "image/jpeg", {})
    await objects.put(neighbour)
    found = {entry.key: entry.size_bytes async for entry in objects.entries(FRONT)}
    assert found == {f"{FRONT}/{name}": size for name, size in sizes.items()}
    assert neighbour.key in await keys(objects, DAY)


async def test_listing_goes_beyond_one_page(objects: ObjectStore) -> None:
    wanted = [f"{number:04}.jpg" for number in range(1_050)]
    for start in range(0, len(wanted), 50):
        async with asyncio.TaskGroup() as tasks:
            for name in wanted[start : start + 50]:
                tasks.create_task(objects.put(item(name, b"x")))
    assert await keys(objects, FRONT) == [f"{FRONT}/{name}" for name in wanted]


async def test_folders_are_those_of_one_level_in_order(objects: ObjectStore) -> None:
    for day in ("dt=2026-01-02", "dt=2025-12-31", "dt=2026-01-01"):
        await objects.put(StoredObject(f"{day}/device=porch/camera=front/a.jpg", b"x", "image/jpeg", {}))
    assert await objects.folders("") == ["dt=2025-12-31", "dt=2026-01-01", "dt=2026-01-02"]
    assert await objects.folders("dt=2026-01-01") == ["dt=2026-01-01/device=porch"]


async def test_the_first_folders_behind_a_name_are_those_of_one_level_in_order(objects: ObjectStore) -> None:
    cameras = [f"{DAY}/device=porch/camera=c{number:02}" for number in range(12)]
    for camera in cameras:
        await objects.put(StoredObject(f"{camera}/a.jpg", b"x", "image/jpeg", {}))
    await objects.put(StoredObject(f"{DAY}/device=porch/a.jpg", b"x", "image/jpeg", {}))
    folder = f"{DAY}/device=porch"
    assert await objects.folders(folder, most=5) == cameras[:5]
    assert await objects.folders(folder, after="camera=c03", most=5) == cameras[4:9]
    assert await objects.folders(folder, after="camera=c03") == cameras[4:]
    assert await objects.folders(folder, after="camera=c10x", most=100) == cameras[11:]
    assert await objects.folders(folder, after="x", most=100) == []
    assert await objects.folders("", most=100) == [DAY]
    assert await objects.folders("nowhere", most=100) == []


async def test_a_part_of_a_folder_comes_in_order_and_within_its_bounds(objects: ObjectStore) -> None:
    names = [f"{number:02}.jpg" for number in range(20)]
    for name in reversed(names):
        await objects.put(item(name, name.encode()))
    await objects.put(StoredObject(f"{FRONT}-2/05.jpg", b"x", "image/jpeg", {}))

    async def first(count: int, after: str = "", before: str = "") -> list[str]:
        found = await objects.first(FRONT, count, after=after, before=before)
        return [entry.key.removeprefix(f"{FRONT}/") for entry in found]

    assert await objects.first(FRONT, 30) == [ListedObject(f"{FRONT}/{name}", len(name)) for name in names]
    assert await first(3) == names[:3]
    assert await first(30, "04.jpg", "08.jpg") == names[5:8]
    assert await first(2, "04.jpg", "08.jpg") == names[5:7]
    assert await first(30, "18") == names[18:]
    assert await first(30, "5") == []
    assert await objects.first("dt=1999-01-01/device=a/camera=b", 30) == []


async def test_a_folder_is_read_from_its_end(objects: ObjectStore) -> None:
    moments = [
        f"20260131T{hour:02}{minute:02}00.000000Z-{'0' * 32}.jpg" for hour in (0, 9) for minute in range(5)
    ]
    names = ["a stray.jpg", *moments]
    for name in names:
        await objects.put(item(name, name.encode()))
    names.sort()

    async def last(before: str = "") -> list[str]:
        found = [entry.key async for entry in objects.reverse_entries(FRONT, before=before, at_once=3)]
        return [key.removeprefix(f"{FRONT}/") for key in found]

    assert await last() == names[::-1]
    assert await last(names[7]) == names[:7][::-1]
    assert await last("20260131T000000.000000Z") == []
    assert await last("20260131T000000.000000Z-1") == names[:1]
    newest = await anext(objects.reverse_entries(FRONT))
    assert newest.size_bytes == len("a stray.jpg")
    assert [entry async for entry in objects.reverse_entries("dt=1999-01-01/device=a/camera=b")] == []


async def test_names_come_some_at_a_time_and_within_their_bounds(objects: ObjectStore) -> None:
    names = [f"{number:02}.jpg" for number in range(20)]
    for name in names:
        await objects.put(item(name, b"x"))

    async def between(after: str = "", before: str = "") -> list[str]:
        return sorted(
            [name async for lot in objects.names(FRONT, after=after, before=before) for name in lot]
        )

    assert await between() == names
    assert await between("04.jpg", "08.jpg") == names[5:8]
    assert await between("19.jpg") == []
    assert [lot async for lot in objects.names("dt=1999-01-01/device=a/camera=b")] == []


async def test_a_link_leads_to_the_object_for_whoever_has_it(objects: ObjectStore) -> None:
    await objects.put(item())
    link = await objects.link(item().key, 60)
    if link is None:
        return  # a folder has no addresses
    async with aiohttp.ClientSession() as session, session.get(URL(link, encoded=True)) as answer:
        assert answer.status == 200
        assert answer.content_type == "image/jpeg"
        assert await answer.read() == item().body


async def test_verify_writes_the_same_probe_each_time(settings: ObjectStoreSettings) -> None:
    for _ in range(2):
        async with verified(settings) as objects:
            assert await keys(objects, "") == [PROBE.key]
            assert await objects.fetch(PROBE.key) == PROBE.body
