"""The store writes down what it has stored, and nothing waits for that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.common.parquet import tables
from services.common.storage.index import rows
from services.common.storage.index.rows import Hour, IndexRow
from services.common.storage.objects import ListedObject, StoreUnavailable
from services.common.wire import faces
from services.common.wire.topics import Source
from services.store import indexing as module
from services.store.admission import Admitted, to_object
from services.store.indexing import indexing
from services.store.metrics import UNINDEXED
from tests.storing import jpeg
from tests.support import eventually

AT = datetime(2026, 3, 14, 11, 59, 58, tzinfo=UTC)
VISIT = "20260314T115950.000000Z-0123456789abcdef"


class Shelf:
    """Keeps files in memory, unless it is in trouble."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.trouble = ""
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def keep(self, key: str, body: bytes) -> None:
        await self.is_open.wait()
        if self.trouble:
            raise StoreUnavailable(self.trouble)
        self.kept[key] = body

    async def fetch(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self.kept[key][start:end]

    async def remove(self, key: str) -> None:
        del self.kept[key]

    async def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        for each in list[ListedObject]():
            yield each
        raise AssertionError(folder)

    async def folders(self, folder: str, *, after: str = "", most: int = 0) -> list[str]:
        raise AssertionError(folder, after, most)

    @property
    def rows(self) -> list[IndexRow]:
        return [
            row
            for body in self.kept.values()
            for group in tables.read_footer(body)
            for row in rows.decode(group, body)
        ]


def admitted(number: int, after_s: float = 0.0, **known: str) -> Admitted:
    face = faces.mint(
        Source("porch", "front"), AT + timedelta(seconds=after_s), jpeg(number), "image/jpeg", known
    )
    return Admitted(face, to_object(face), is_bare=False)


def ids(faces_: list[Admitted]) -> list[str]:
    return sorted(each.face.id for each in faces_)


def missing(reason: str) -> float:
    return float(UNINDEXED.labels(reason)._value.get())


async def test_what_was_stored_is_written_after_a_while_with_what_is_known_of_it() -> None:
    shelf = Shelf()
    face = admitted(1, visit=VISIT, shot="3", quality="0.5", score="0.912")
    async with indexing(shelf, 0.05) as note:
        note(face)
        assert not shelf.kept
        await eventually(lambda: shelf.kept)
        [row] = shelf.rows
        assert (str(row.key), row.bytes, row.known) == (face.item.key, len(face.item.body), True)
        assert (row.visit, row.shot, row.quality, row.score) == (VISIT, 3, 0.5, 0.912)


async def test_faces_of_two_hours_go_into_two_files_by_when_they_were_taken() -> None:
    shelf = Shelf()
    async with indexing(shelf, 0.05) as note:
        some = [admitted(number, number) for number in range(4)]
        for face in reversed(some):
            note(face)
    assert sorted(key.rpartition("/")[0] for key in shelf.kept) == [
        Hour(AT.date(), 11).folder,
        Hour(AT.date(), 12).folder,
    ]
    assert sorted(row.id for row in shelf.rows) == ids(some)


async def test_many_are_written_at_once_however_long_they_might_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_A_FILE", 8)
    shelf = Shelf()
    async with indexing(shelf, 3600.0) as note:
        for number in range(7):
            note(admitted(number))
        await asyncio.sleep(0.05)
        assert not shelf.kept
        note(admitted(7))
        await eventually(lambda: len(shelf.rows) == 8, 5)


async def test_what_is_left_is_written_at_the_end() -> None:
    shelf = Shelf()
    async with indexing(shelf, 3600.0) as note:
        note(admitted(0))
    assert len(shelf.rows) == 1


async def test_the_end_by_a_signal_writes_what_is_left_and_nothing_twice() -> None:
    shelf = Shelf()

    async def serve() -> None:
        async with indexing(shelf, 0.01) as note:
            note(admitted(0))
            await asyncio.sleep(0.05)  # the first file is on its way
            note(admitted(1))
            await asyncio.sleep(3600)

    shelf.is_open.clear()
    serving = asyncio.create_task(serve())
    await asyncio.sleep(0.1)
    serving.cancel()
    await asyncio.sleep(0.05)
    shelf.is_open.set()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert sorted(row.id for row in shelf.rows) == ids([admitted(0), admitted(1)])


async def test_while_the_store_takes_nothing_rows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.01)
    shelf = Shelf()
    shelf.trouble = "unreachable"
    async with indexing(shelf, 0.01) as note:
        note(admitted(0))
        await asyncio.sleep(0.1)
        note(admitted(1))
        shelf.trouble = ""
        await eventually(lambda: len(shelf.rows) == 2, 5)


async def test_what_waits_has_an_end_and_what_goes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    before = missing("too_many_waiting")
    shelf = Shelf()
    async with indexing(shelf, 3600.0) as note:
        some = [admitted(number) for number in range(5)]
        for face in some:
            note(face)
    assert sorted(row.id for row in shelf.rows) == ids(some[2:])
    assert missing("too_many_waiting") == before + 2


@pytest.mark.parametrize("is_hanging", [True, False])
async def test_a_store_that_takes_nothing_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, *, is_hanging: bool
) -> None:
    monkeypatch.setattr(module, "LAST_WRITE_S", 0.1)
    before = missing("ended")
    shelf = Shelf()
    shelf.trouble = "forbidden"
    if is_hanging:
        shelf.is_open.clear()
    async with asyncio.timeout(5), indexing(shelf, 3600.0) as note:
        note(admitted(0))
    assert missing("ended") == before + 1


async def test_nothing_is_written_where_none_is_wanted() -> None:
    shelf = Shelf()
    async with indexing(shelf, 0) as note:
        note(admitted(0))
    assert not shelf.kept
