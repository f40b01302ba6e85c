"""The index of a store that runs, is stopped, and is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.mqtt import Link
from services.common.storage.folder import FolderStore
from services.common.storage.index.reading import Index
from services.common.storage.index.repairs import repair
from services.common.storage.index.rows import IndexRow
from services.common.wire import faces
from tests.storing import TIME, StoreProcess, face, receipted
from tests.support import MosquittoServer, eventually

DAY = TIME.date()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def store(
    broker: MosquittoServer, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[StoreProcess]:
    """A store that waits so many seconds for others before it writes a row."""
    log = tmp_path / "store.log"
    with StoreProcess(broker.url, folder.as_uri(), log, FACEFERRY_STORE_INDEX_S=request.param) as store:
        yield store


async def rows_in(folder: Path) -> list[IndexRow]:
    with FolderStore(folder) as objects:
        index = Index(objects)
        return [row for hour in await index.hours(DAY) for row in await index.rows(hour)]


def properties_in_the_index(folder: Path) -> list[Path]:
    return list(folder.rglob("index/**/*.json"))


async def send(edge: Link, numbers: range) -> list[str]:
    for number in numbers:
        edge.publish(faces.encode_face(face(number)))
    await receipted(edge, len(numbers))
    return sorted(face(number).id for number in numbers)


@pytest.mark.parametrize("store", ["0.2"], indirect=True)
async def test_what_is_stored_is_in_the_index_soon_and_once(
    store: StoreProcess, edge: Link, folder: Path
) -> None:
    await store.until_ready()
    sent = await send(edge, range(40))
    await eventually(lambda: store.metric("faceferry_store_indexed_total") == 40)
    await send(edge, range(10))  # again
    found = await rows_in(folder)
    assert sorted(row.id for row in found) == sent
    assert {row.score for row in found} == {0.912}
    assert properties_in_the_index(folder) == []
    assert store.stop() == 0
    with FolderStore(folder) as objects:
        assert sum(await Index(objects).counts(DAY)) == 40


@pytest.mark.parametrize("store", ["3600"], indirect=True)
async def test_a_store_that_is_told_to_stop_leaves_nothing_out(
    store: StoreProcess, edge: Link, folder: Path
) -> None:
    await store.until_ready()
    sent = await send(edge, range(40))
    assert await rows_in(folder) == []
    assert store.stop() == 0
    assert sorted(row.id for row in await rows_in(folder)) == sent


@pytest.mark.parametrize("store", ["3600"], indirect=True)
async def test_what_a_killed_store_left_out_is_added_from_the_keys(
    store: StoreProcess, edge: Link, folder: Path
) -> None:
    await store.until_ready()
    sent = await send(edge, range(40))
    store.kill()
    with FolderStore(folder) as objects:
        done = await repair(objects, DAY)
    assert (done.added, done.faces) == (40, 40)
    found = await rows_in(folder)
    assert sorted(row.id for row in found) == sent
    assert all(row.known and row.score == 0.912 for row in found)


@pytest.mark.parametrize("store", ["0"], indirect=True)
async def test_where_none_is_wanted_none_is_written(store: StoreProcess, edge: Link, folder: Path) -> None:
    await store.until_ready()
    await send(edge, range(5))
    assert store.stop() == 0
    assert not (folder / "index").exists()
