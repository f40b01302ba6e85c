"""The index: what is stored is in it, once, and it can always be made anew from the keys."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from services.common.parquet import tables
from services.common.parquet.thrift import BadParquet
from services.common.storage.backends import open_store
from services.common.storage.folder import FolderStore
from services.common.storage.index import rows
from services.common.storage.index.reading import Index, RowQuery, find
from services.common.storage.index.repairs import remove_faces, repair, tidy
from services.common.storage.index.rows import Hour, IndexRow
from services.common.storage.keys import FaceKey
from services.common.storage.objects import FileStore, StoredObject, StoreUnavailable, WholeStore
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import times
from services.common.wire.topics import Source
from tests.support import S3Server, faceferry

DAY = date(2026, 3, 14)
DAWN = times.midnight(DAY)
VISIT = "20260314T000000.000000Z-0123456789abcdef"


def key_of(number: int, at: datetime, cameras: int = 7) -> FaceKey:
    digest = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    source = Source(f"device-{number % cameras:04}", "front")
    return FaceKey(source, f"{times.compact(at)}-{digest}", "image/jpeg")


def some_keys(count: int, seconds: float = 86_400.0, seed: int = 5) -> list[FaceKey]:
    """Faces of the day, in no order."""
    rng = random.Random(seed)
    return [key_of(number, DAWN + timedelta(seconds=rng.uniform(0, seconds))) for number in range(count)]


def row_of(key: FaceKey) -> IndexRow:
    return IndexRow.of(key, 20_000, {"visit": VISIT, "shot": "1", "quality": "0.25", "score": "0.9"})


async def write(files: FileStore, some: Iterable[FaceKey], in_a_file: int = 10) -> None:
    """Write an index as stores do: a few faces of an hour in each file, the faces in the order they come."""
    for of_hour in rows.by_hour(map(row_of, some)).values():
        for start in range(0, len(of_hour), in_a_file):
            part = rows.sorted_unique(of_hour[start : start + in_a_file])
            body = rows.encode(part)
            await files.keep(rows.key_for(part, body), body)


async def put(store: WholeStore, some: Iterable[FaceKey], **known: str) -> None:
    for key in some:
        await store.put(StoredObject(str(key), b"a face", "image/jpeg", {"id": key.id, **known}))


async def all_of(store: WholeStore, day: date = DAY) -> list[IndexRow]:
    index = Index(store)
    return [row for hour in await index.hours(day) for row in await index.rows(hour)]


async def files_of(store: WholeStore, day: date = DAY) -> list[str]:
    return [file.key for file in await Index(store).files(rows.day_folder(day))]


def ids(some: Iterable[FaceKey | IndexRow]) -> list[str]:
    return sorted(each.id for each in some)


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStoreSettings:
    if request.param == "folder":
        return ObjectStoreSettings(store_url=(tmp_path / "faces").as_uri())
    request.getfixturevalue("bucket")
    return ObjectStoreSettings(store_url="s3://faces/some/prefix")


@pytest.fixture
async def store(settings: ObjectStoreSettings) -> AsyncIterator[WholeStore]:
    async with open_store(settings) as store:
        await store.verify()
        yield store


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[FolderStore]:
    with FolderStore(tmp_path / "faces") as store:
        await store.verify()
        yield store


async def test_a_file_comes_back_whole_or_in_part_until_it_is_removed(store: WholeStore) -> None:
    key, body = "index/dt=2026-03-14/hour=00/a.parquet", bytes(range(256)) * 3_000
    await store.keep(key, body)
    await store.keep(key, body)
    assert await store.fetch(key) == body
    assert await store.fetch(key, 100, 300) == body[100:300]
    assert await store.fetch(key, len(body) - 7) == body[-7:]
    assert [entry.key async for entry in store.entries("index")] == [key]
    await store.remove(key)
    await store.remove(key)
    assert [entry.key async for entry in store.entries("index")] == []


async def test_the_newest_and_the_oldest_are_found_from_anywhere(store: WholeStore) -> None:
    some = some_keys(400)
    await write(store, some)
    index = Index(store)
    in_order = ids(some)
    for bound in ("", in_order[0], in_order[37], in_order[200][:23], in_order[-1], "20260315"):
        before = [face_id for face_id in in_order if not bound or face_id < bound]
        assert [row.id for row in await index.latest(DAY, bound, 25)] == before[::-1][:25]
        after = [face_id for face_id in in_order if face_id > bound]
        assert [row.id for row in await index.earliest(DAY, bound, 25)] == after[:25]
    assert [row.id async for row in index.newest_first(DAY, at_once=3)] == in_order[::-1]


async def test_a_large_file_is_read_in_parts(store: WholeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.storage.index.files.WHOLE_BYTES", 10_000)
    monkeypatch.setattr("services.common.storage.index.files.END_BYTES", 1_000)
    monkeypatch.setattr("services.common.storage.index.rows.GROUP_ROWS", 256)
    some = some_keys(3_000, seconds=3_600)
    await write(store, some, in_a_file=5_000)
    [file] = await Index(store).files(rows.day_folder(DAY))
    asked: list[int] = []
    fetch = store.fetch

    async def counted(key: str, start: int = 0, end: int | None = None) -> bytes:
        data = await fetch(key, start, end)
        asked.append(len(data))
        return data

    monkeypatch.setattr(store, "fetch", counted)
    in_order = ids(some)
    for bound in ("", in_order[1_500]):
        asked.clear()
        before = [face_id for face_id in in_order if not bound or face_id < bound]
        assert [row.id for row in await Index(store).latest(DAY, bound, 25)] == before[::-1][:25]
        assert len(asked) <= 4
        assert sum(asked) < file.size_bytes / 3


async def test_duckdb_answers_the_question_that_people_type(
    settings: ObjectStoreSettings, store: WholeStore, tmp_path: Path
) -> None:
    await write(store, some_keys(700))
    root = tmp_path / "faces" if settings.store_url.startswith("file") else tmp_path / "s3/faces/some/prefix"
    asked = f"SELECT camera, count(*) FROM read_parquet('{root}/index/**') GROUP BY camera"  # noqa: S608
    assert duckdb.execute(asked).fetchall() == [("front", 700)]
    by_path = (
        f"SELECT device, min(time)::VARCHAR, sum(bytes) FROM read_parquet('{root}/index/**') "  # noqa: S608
        "WHERE dt = '2026-03-14' AND hour = 7 AND visit IS NOT NULL GROUP BY device ORDER BY device"
    )
    assert [found[0] for found in duckdb.execute(by_path).fetchall()] == [f"device-{n:04}" for n in range(7)]


async def test_tidying_leaves_a_file_for_each_hour_and_each_face_once(store: WholeStore) -> None:
    some = some_keys(300, seconds=3 * 3_600)
    await write(store, some)
    await write(store, some[:100], in_a_file=7)  # another store has been told of these, too
    assert ids(await all_of(store)) == ids(some)
    done = await tidy(store, DAY)
    assert (done.faces, done.files) == (300, 3)
    assert len(await files_of(store)) == 3
    assert await all_of(store) == rows.sorted_unique(map(row_of, some))
    assert (await tidy(store, DAY)).removed == ()


async def test_repairing_adds_what_was_lost_and_takes_out_what_is_not_stored(store: WholeStore) -> None:
    stored, erased = some_keys(40, 7_200), some_keys(10, 7_200, seed=8)
    erased = [key_of(1_000 + n, key.time) for n, key in enumerate(erased)]
    await put(store, stored, visit=VISIT, shot="2")
    await write(store, [*stored[:25], *erased])
    done = await repair(store, DAY)
    assert (done.faces, done.added, done.dropped, done.files) == (40, 15, 10, 2)
    found = {row.id: row for row in await all_of(store)}
    assert sorted(found) == ids(stored)
    assert all(found[key.id].known and found[key.id].visit == VISIT for key in stored)
    assert [found[key.id].shot for key in stored] == [1] * 25 + [2] * 15  # only what was new was asked
    assert all(row.bytes == len(b"a face") for row in found.values())
    again = await repair(store, DAY)
    assert (again.added, again.dropped, again.removed) == (0, 0, ())


async def test_an_index_is_rebuilt_from_the_keys_alone(store: WholeStore) -> None:
    stored = some_keys(30, 3_600)
    await put(store, stored, visit=VISIT, shot="2")
    first = await repair(store, DAY, may_ask=False)
    assert first.added == 30
    assert [row.known for row in await all_of(store)] == [False] * 30
    await repair(store, DAY, is_trusted=False)
    assert [(row.known, row.shot) for row in await all_of(store)] == [(True, 2)] * 30


async def test_of_a_day_without_faces_nothing_is_left(store: WholeStore) -> None:
    await write(store, some_keys(30))
    done = await repair(store, DAY)
    assert (done.faces, done.dropped, done.files) == (0, 30, 0)
    assert await files_of(store) == []


async def test_an_erased_face_leaves_it(store: WholeStore) -> None:
    some = some_keys(60, 3_600)
    await write(store, some)
    gone = {key.id for key in some[:7]}
    done = await remove_faces(store, Hour(DAY, 0), gone)
    assert (done.dropped, done.faces) == (7, 53)
    assert len(done.removed) == 6
    assert ids(await all_of(store)) == ids(some[7:])
    assert (await remove_faces(store, Hour(DAY, 0), gone)).removed == ()


class Killed(BaseException):
    pass


class Mortal(FolderStore):
    """Its user is killed before the next write or removal, after so many."""

    left = 10_000

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    async def keep(self, key: str, body: bytes) -> None:
        self._live()
        await super().keep(key, body)

    async def remove(self, key: str) -> None:
        self._live()
        await super().remove(key)


async def test_everything_of_a_device_a_camera_a_day_or_a_visit_is_found(store: WholeStore) -> None:
    some = some_keys(90)
    next_day = [key_of(1_000 + n, DAWN + timedelta(days=1, hours=n)) for n in range(9)]
    await write(store, [*some, *next_day])

    async def found(wanted: RowQuery) -> list[str]:
        return [row.id async for row in find(store, wanted)]

    of_device = [key for key in [*some, *next_day] if key.source.device == "device-0003"]
    assert await found(RowQuery(device="device-0003")) == ids(of_device)
    assert await found(RowQuery(camera="front", last=DAY)) == ids(some)
    assert await found(RowQuery(first=DAY + timedelta(days=1))) == ids(next_day)
    assert await found(RowQuery(visit=VISIT)) == ids([*some, *next_day])
    assert await found(RowQuery(visit=VISIT.replace("a", "b"))) == []
    assert await found(RowQuery(camera="yard")) == []


async def test_a_repair_that_is_cut_off_anywhere_loses_nothing(folder: FolderStore, tmp_path: Path) -> None:
    """Each face is in the index at every moment, and the next repair makes it right."""
    was_killed = 0
    with Mortal(tmp_path / "faces") as mortal:
        for left in range(7):
            some = some_keys(40, 3_600, seed=left)
            await write(folder, some)
            mortal.left = left
            try:
                await tidy(mortal, DAY)
            except Killed:
                was_killed += 1
            assert ids(await all_of(folder)) == ids(some)
            await tidy(folder, DAY)
            [key] = await files_of(folder)
            await folder.remove(key)
    assert was_killed == 5


async def test_two_who_tidy_at_once_leave_each_face(folder: FolderStore) -> None:
    for seed in range(10):
        some = some_keys(200, 2 * 3_600, seed=seed)
        await write(folder, some)
        await asyncio.gather(*(tidy(folder, DAY) for _ in range(3)))
        assert ids(await all_of(folder)) == ids(some)
        for key in await files_of(folder):
            await folder.remove(key)


async def test_whoever_reads_while_it_is_tidied_sees_each_face(folder: FolderStore) -> None:
    some = some_keys(300, 3_600)
    is_over = asyncio.Event()

    async def keep_tidying() -> None:
        while not is_over.is_set():
            await tidy(folder, DAY)
            for key in await files_of(folder):
                await write(folder, some, in_a_file=20)
                await folder.remove(key)
            await asyncio.sleep(0)

    await write(folder, some)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_tidying())
        for _ in range(60):
            found = await Index(folder).latest(DAY, "", 40)
            assert [row.id for row in found] == ids(some)[::-1][:40]
        is_over.set()


async def test_what_is_no_file_of_the_index_is_passed_over_and_what_is_damaged_repaired(
    folder: FolderStore, tmp_path: Path
) -> None:
    stored = some_keys(40, 3_600)
    await put(folder, stored)
    await write(folder, stored)
    first, second, *_ = [tmp_path / "faces" / key for key in await files_of(folder)]
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(b"PAR1 and nothing else PAR1")
    (first.parent / "notes.txt").write_text("not ours")
    assert len(await Index(folder).latest(DAY, "", 100)) == 20
    await repair(folder, DAY)
    assert ids(await Index(folder).latest(DAY, "", 100)) == ids(stored)
    assert (first.parent / "notes.txt").exists()


def test_of_two_rows_of_a_face_the_one_that_knows_more_is_kept() -> None:
    known = row_of(some_keys(1)[0])
    unknown = known._replace(known=False, visit=None)
    for both in ([known, unknown], [unknown, known]):
        assert rows.sorted_unique(both) == [known]


def test_a_hostile_row_is_none() -> None:
    good = row_of(some_keys(1)[0])
    for bad in (
        good._replace(device="../.."),
        good._replace(camera=""),
        good._replace(id="x"),
        good._replace(content_type="text/html"),
    ):
        body = tables.write(rows.COLUMNS, [bad], 1, "somebody")
        [group] = tables.read_footer(body)
        with pytest.raises(BadParquet):
            rows.decode(group, body)


def test_the_command_says_what_there_is_tidies_repairs_and_rebuilds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = some_keys(20, 7_200)

    async def fill() -> None:
        with FolderStore(tmp_path) as folder:
            await folder.verify()
            await put(folder, stored)
            await write(folder, stored[:15], in_a_file=2)

    asyncio.run(fill())
    said = []
    for options in (
        [],
        ["--tidy"],
        ["--repair", "--keys-only"],
        ["--rebuild"],
        ["--repair", "--from", "2026-03-15"],
        ["--days", "1"],
    ):
        assert faceferry("index", "--store", str(tmp_path), *options) == 0
        said.append(" ".join(capsys.readouterr().out.split()))
    assert said[0].startswith("2026-03-14 15 faces in ")
    assert said[1].startswith("2026-03-14 15 faces in 2 files, ")
    assert said[2].startswith("2026-03-14 20 faces in 2 files, 5 added")
    assert said[3].startswith("2026-03-14 20 faces in 2 files")
    assert said[4:] == ["", ""]


def test_the_command_tries_again_where_the_store_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill() -> None:
        with FolderStore(tmp_path) as folder:
            await folder.verify()
            await write(folder, some_keys(20, 3_600), in_a_file=2)

    asyncio.run(fill())
    fetch, fetched = FolderStore.fetch, itertools.count()

    async def now_and_then(self: FolderStore, key: str, start: int = 0, end: int | None = None) -> bytes:
        if next(fetched) in (3, 20):
            raise StoreUnavailable("timeout")
        return await fetch(self, key, start, end)

    monkeypatch.setattr(FolderStore, "fetch", now_and_then)
    monkeypatch.setattr("services.commands.index.FIRST_RETRY_S", 0.01)
    assert faceferry("index", "--store", str(tmp_path), "--tidy") == 0
    assert "20 faces in 1 files, 10 replaced" in " ".join(capsys.readouterr().out.split())


def test_the_command_says_in_words_what_is_wrong(
    bucket: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.commands.index.FIRST_RETRY_S", 0.01)
    bucket.kill()
    assert faceferry("index", "--store", "s3://faces", "--repair") == 2
    assert "s3://faces cannot be read or written: unreachable" in capsys.readouterr().err
