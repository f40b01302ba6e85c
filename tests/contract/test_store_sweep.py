"""What is older than faces are kept goes from the real things, and nothing younger does."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aioboto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.retention import Retention
from services.common.storage.backends import open_store
from services.common.storage.objects import PROBE, Copy, ObjectStore, StoredObject, WholeStore
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.common.wire.topics import Source
from services.store.admission import to_object
from services.store.sweep import sweep
from tests.storing import jpeg
from tests.support import S3Server

MONTH = Retention(30)
DAY = timedelta(days=1)
NOW = datetime.now(UTC)
CAMERAS = (Source("porch", "front"), Source("porch", "yard"), Source("lobby", "desk"))


@dataclass
class Place:
    """A store, and what else its test may do to it."""

    settings: ObjectStoreSettings
    server: S3Server | None = None


@pytest.fixture(params=["folder", "s3", "s3 with versions"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty store of each kind."""
    if request.param == "folder":
        yield Place(ObjectStoreSettings(store_url=(tmp_path / "faces").as_uri()))
        return
    program = request.getfixturevalue("s3_program")
    server = S3Server(program, tmp_path, is_versioning="versions" in request.param).start()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.create_bucket("faces")
    if "versions" in request.param:
        keep_versions(server)
    yield Place(ObjectStoreSettings(store_url="s3://faces/some/prefix"), server)
    server.kill()


def keep_versions(server: S3Server) -> None:
    """Have a server's bucket keep what is replaced or deleted."""

    async def work() -> None:
        async with client(server) as s3:
            await s3.put_bucket_versioning(Bucket="faces", VersioningConfiguration={"Status": "Enabled"})

    asyncio.run(work())


@asynccontextmanager
async def client(server: S3Server) -> AsyncIterator[Any]:
    session = aioboto3.Session(aws_access_key_id=server.key, aws_secret_access_key=server.secret)
    async with session.client("s3", endpoint_url=server.url, region_name="us-east-1") as s3:
        yield s3


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[WholeStore]:
    async with open_store(place.settings) as objects:
        await objects.verify()
        yield objects


def taken(at: datetime, source: Source = CAMERAS[0], **known: str) -> StoredObject:
    return to_object(faces.mint(source, at, jpeg(), "image/jpeg", known))


async def left(objects: ObjectStore) -> set[str]:
    """The keys of all copies of all that is left, but for the probe."""
    return {copy.key async for copy in objects.copies("") if ".faceferry" not in copy.key}


async def images(objects: ObjectStore) -> set[str]:
    return {key for key in await left(objects) if not key.endswith(".json")}


async def test_what_is_older_goes_with_all_that_is_known_of_it_and_what_is_younger_stays(
    place: Place,
) -> None:
    limit = NOW - 30 * DAY
    ages = [timedelta(microseconds=1), timedelta(hours=5), DAY, 40 * DAY, 3_000 * DAY]
    old = [taken(limit - age, source) for age in ages for source in CAMERAS]
    young = [taken(limit + age, source) for age in [*ages[:3], 29 * DAY] for source in CAMERAS]
    async with opened(place) as objects:
        for item in (*old, *young):
            await objects.put(item)
        swept = await sweep(objects, MONTH, NOW)
        assert await images(objects) == {item.key for item in young}
        copies = 2 if place.server is None else 1
        assert swept.removed.total() == len(old) * copies
        assert not swept.refused
        for item in young:
            assert await objects.get(item.key) == item
        again = await sweep(objects, MONTH, NOW)
        assert not again.removed
        assert await objects.fetch(PROBE.key)


async def test_nothing_goes_where_faces_are_kept_for_ever(place: Place) -> None:
    async with opened(place) as objects:
        await objects.put(taken(NOW - 9_999 * DAY))
        assert not (await sweep(objects, Retention(), NOW)).removed
        assert await images(objects)


async def test_a_face_stays_no_longer_than_a_day_beyond_its_time(place: Place) -> None:
    """The clock goes on by six hours at a time; what is there is what is not too old."""
    start = NOW - 40 * DAY
    items = [taken(start + timedelta(hours=7) * number) for number in range(24)]
    async with opened(place) as objects:
        for item in items:
            await objects.put(item)
        for hours in range(0, 24 * 9, 6):
            now = start + 30 * DAY + timedelta(hours=hours)
            await sweep(objects, MONTH, now)
            due = timedelta(hours=hours)
            expected = {item.key for number, item in enumerate(items) if timedelta(hours=7) * number >= due}
            assert await images(objects) == expected


async def test_a_face_of_a_wrong_clock_stays_for_its_days_from_when_it_came(place: Place) -> None:
    unknown = [taken(datetime(1970, 1, 1, tzinfo=UTC), clock="unsynchronised"), taken(NOW + 900 * DAY)]
    known = taken(datetime(1970, 1, 1, tzinfo=UTC), CAMERAS[1])
    async with opened(place) as objects:
        for item in (*unknown, known):
            await objects.put(item)
        await sweep(objects, MONTH, NOW + 29 * DAY)
        assert await images(objects) == {item.key for item in unknown}
        await sweep(objects, MONTH, NOW + 31 * DAY)
        assert await left(objects) == set()


async def test_what_is_no_face_is_left_alone_and_counted(place: Place) -> None:
    foreign = StoredObject("dt=2020-01-01/readme.txt", b"mine", "text/plain", {})
    elsewhere = StoredObject("albums/2020/a.jpg", b"mine", "image/jpeg", {})
    async with opened(place) as objects:
        for item in (foreign, elsewhere, taken(NOW - 99 * DAY)):
            await objects.put(item)
        swept = await sweep(objects, MONTH, NOW)
        assert swept.foreign == (1 if place.server else 2)  # in a folder what is known of it is a file
        found = await left(objects)
        assert {foreign.key, elsewhere.key} <= found
        assert not [key for key in found if "camera=" in key]


async def test_rows_of_the_index_go_with_the_hours_that_they_are_of(place: Place) -> None:
    limit = NOW - 30 * DAY
    hours = {offset: limit + timedelta(hours=offset) for offset in (-900, -24, -1, 0, 1, 700)}
    keys = {
        offset: f"index/dt={at:%Y-%m-%d}/hour={at:%H}/a_b_1_{offset}.parquet" for offset, at in hours.items()
    }
    async with opened(place) as objects:
        for key in keys.values():
            await objects.put(StoredObject(key, b"PAR1", "application/octet-stream", {}))
        await sweep(objects, MONTH, NOW)
        found = {key for key in await left(objects) if key.endswith(".parquet")}
        assert found == {keys[offset] for offset in (0, 1, 700)}


async def test_two_may_sweep_at_a_time(place: Place) -> None:
    old = [taken(NOW - 31 * DAY - timedelta(seconds=number)) for number in range(40)]
    async with opened(place) as objects, opened(place) as others:
        for item in old:
            await objects.put(item)
        await asyncio.gather(*(sweep(each, MONTH, NOW) for each in (objects, others)))
        assert await left(objects) == set()


async def test_a_sweep_that_is_cut_short_is_ended_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.store.sweep.AT_ONCE", 4)
    async with opened(place) as objects:
        for number in range(12):
            await objects.put(taken(NOW - 31 * DAY - timedelta(seconds=number)))
        cut = await sweep(objects, MONTH, NOW, is_wanted=lambda: False)
        assert cut.removed.total() == 4
        await sweep(objects, MONTH, NOW)
        assert await left(objects) == set()


@pytest.mark.parametrize("place", ["s3 with versions"], indirect=True)
async def test_versions_and_marks_of_deletions_go_for_good(place: Place) -> None:
    assert place.server is not None
    old, young = taken(NOW - 31 * DAY), taken(NOW - DAY)
    async with opened(place) as objects, client(place.server) as s3:
        for item in (old, young):
            for _ in range(3):
                await s3.put_object(Bucket="faces", Key=f"some/prefix/{item.key}", Body=item.body)
            await s3.delete_object(Bucket="faces", Key=f"some/prefix/{item.key}")
        await sweep(objects, MONTH, NOW)
        found = await s3.list_object_versions(Bucket="faces", Prefix="some/prefix/dt=")
        versions = [each["Key"] for each in found.get("Versions", [])]
        marks = [each["Key"] for each in found.get("DeleteMarkers", [])]
        assert versions == [f"some/prefix/{young.key}"] * 3
        assert marks == [f"some/prefix/{young.key}"]


async def test_empty_folders_go_and_others_stay(tmp_path: Path) -> None:
    place = Place(ObjectStoreSettings(store_url=tmp_path.as_uri()))
    old, young = taken(NOW - 31 * DAY), taken(NOW - DAY)
    async with opened(place) as objects:
        await objects.put(old)
        await objects.put(young)
        await sweep(objects, MONTH, NOW)
        assert not (tmp_path / old.key.split("/")[0]).exists()
        assert (tmp_path / young.key).exists()
        assert await objects.put(old)  # whoever comes now finds its folder made again
        assert (await objects.get(old.key)) == old


async def test_what_a_crash_has_left_of_a_face_goes_too(tmp_path: Path) -> None:
    place = Place(ObjectStoreSettings(store_url=tmp_path.as_uri()))
    old = taken(NOW - 31 * DAY)
    async with opened(place) as objects:
        await objects.put(old)
        (tmp_path / old.key).unlink()
        await sweep(objects, MONTH, NOW)
        assert await left(objects) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may say that a file may not go")
async def test_what_may_not_be_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(ObjectStoreSettings(store_url=tmp_path.as_uri()))
    old = [taken(NOW - 31 * DAY, source) for source in CAMERAS]
    unlink = os.unlink

    def refusing(path: Any, *, dir_fd: int | None = None) -> None:
        if "device=lobby" in str(path):
            raise PermissionError(1, "no")
        unlink(path, dir_fd=dir_fd)

    async with opened(place) as objects:
        for item in old:
            await objects.put(item)
        monkeypatch.setattr(os, "unlink", refusing)
        swept = await sweep(objects, MONTH, NOW)
        monkeypatch.undo()
        assert swept.refused == {"forbidden": 2}
        assert await images(objects) == {old[2].key}


@settings(max_examples=50)
@given(ages_s=st.lists(st.integers(-90 * 86_400, 90 * 86_400), max_size=30), days=st.integers(1, 60))
def test_of_any_faces_just_those_go_that_are_too_old(ages_s: list[int], days: int) -> None:
    items = {taken(NOW - timedelta(seconds=age_s)).key: timedelta(seconds=age_s) for age_s in ages_s}
    listed = _Listed([Copy(key, max(NOW - age, NOW - 90 * DAY)) for key, age in items.items()])
    asyncio.run(sweep(listed, Retention(days), NOW))  # type: ignore[arg-type]
    expected = {key for key, age in items.items() if age <= timedelta(days=days)}
    assert {copy.key for copy in listed.there} == expected


class _Listed:
    """As much of a store as a sweep asks for."""

    def __init__(self, there: list[Copy]) -> None:
        self.there = there

    async def folders(self, _folder: str) -> list[str]:
        return sorted({copy.key.partition("/")[0] for copy in self.there})

    async def copies(self, folder: str) -> AsyncIterator[Copy]:
        for copy in list(self.there):
            if copy.key.startswith(f"{folder}/"):
                yield copy

    async def about(self, _key: str) -> dict[str, str]:
        return {}

    async def remove_copies(self, copies: list[Copy]) -> dict[Copy, str]:
        self.there = [copy for copy in self.there if copy not in copies]
        return {}
