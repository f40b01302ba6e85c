"""A damaged spool on a disk that has no room to write it anew: its faces go out all the same."""

import asyncio
import contextlib
import dataclasses
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.common.runtime.files import sync_folder
from services.forward.spool import replacement
from services.forward.spool.commands import BacklogPart, BacklogRead, Changes, Delete, Quarantine
from services.forward.spool.disk import DAMAGED_AND_FULL, DATABASE, Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.writer import SpoolWriter
from tests.forward_rig import DEVICE, PAGE, Answered, face, small_disk, take_all_room, writing, zero_page
from tests.support import eventually

RESERVE = 4 * 1024 * 1024
FACES = 800
"""More than half of the disk."""
FIRST = BacklogRead(0, after=-(1 << 63), until=1 << 59, most_bytes=2 * 1024 * 1024)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 32) as folder:
        yield folder


@pytest.fixture
def faces(disk: Path) -> list[SpooledFace]:
    made = [face(number) for number in range(1, FACES + 2)]
    with contextlib.closing(Spool(disk, RESERVE, DEVICE)) as spool:
        for at in range(0, len(made), 100):
            spool.write(Changes(made[at : at + 100]))
        spool.write(Changes(refused={made[-1].id: "not_an_image"}))
        spool.tidy(is_tight=False)
    return made[:-1]


def overwrite(disk: Path, page: int, data: bytes) -> None:
    with (disk / DATABASE).open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(data)


def spoil_the_root(disk: Path) -> None:
    with contextlib.closing(sqlite3.connect(disk / DATABASE)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'faces'"
        (page,) = connection.execute(query).fetchone()
    overwrite(disk, page, b"\xa5" * PAGE)


DAMAGES: dict[str, tuple[Callable[[Path], None], int]] = {
    "a page zeroed": (lambda disk: zero_page(disk / DATABASE, 1_000), FACES - 8),
    "the header": (lambda disk: overwrite(disk, 1, b"\xa5" * 100), FACES),
    "the faces' root": (spoil_the_root, FACES),
    "cut": (lambda disk: os.truncate(disk / DATABASE, 1_900 * PAGE), FACES // 2),
}


async def send(
    writer: SpoolWriter, answered: Answered, most: int = 1 << 30, refused: str | None = None
) -> set[str]:
    """Read what waits in parts, and let go of all but one as if the store had it; return the ids."""
    sent: set[str] = set()
    read = FIRST
    while read.after < read.until and len(sent) < most:
        parts = len(answered.parts)
        writer.put(read)
        await eventually(lambda parts=parts: len(answered.parts) > parts, 10)  # type: ignore[misc]
        for each in answered.parts[-1].faces:
            sent.add(each.id)
            writer.put(Quarantine(each.id, "not_an_image") if each.id == refused else Delete(each.id))
        read = dataclasses.replace(read, after=answered.parts[-1].until)
    return sent


async def is_well(disk: Path, writer: SpoolWriter, answered: Answered) -> None:
    await eventually(lambda: writer.problem is None, 20)
    await eventually(lambda: (writer.state.faces, writer.state.quarantined) == (0, 1), 10)
    new = face(writer.next_sequence())
    writer.put(new)
    await eventually(lambda: answered.written[-1:] == [new])
    assert (disk / "reserve").exists()


@pytest.mark.parametrize("kind", DAMAGES)
async def test_found_at_the_start(disk: Path, faces: list[SpooledFace], kind: str) -> None:
    damage, at_least = DAMAGES[kind]
    damage(disk)
    async with writing(disk, RESERVE) as (writer, answered):
        assert writer.problem == (None if kind == "a page zeroed" else DAMAGED_AND_FULL)
        sent = await send(writer, answered)
        assert len(sent & {each.id for each in faces}) >= at_least
        if kind == "cut":  # the quarantine was behind it
            await eventually(lambda: writer.problem is None, 20)
        else:
            await is_well(disk, writer, answered)


async def test_met_at_work(disk: Path, faces: list[SpooledFace]) -> None:
    async with writing(disk, RESERVE) as (writer, answered):
        zero_page(disk / DATABASE, 1_000)
        sent = await send(writer, answered)
        assert len(sent & {each.id for each in faces}) >= FACES - 8
        await is_well(disk, writer, answered)


@pytest.mark.usefixtures("faces")
async def test_which_are_first_pictures_is_not_known_then(disk: Path) -> None:
    spoil_the_root(disk)
    async with writing(disk, RESERVE) as (writer, answered):
        assert writer.problem == DAMAGED_AND_FULL
        parts = len(answered.parts)
        writer.put(dataclasses.replace(FIRST, only_firsts=True))
        await eventually(lambda: len(answered.parts) > parts)
        assert answered.parts[-1] == BacklogPart([], FIRST.until)


async def test_a_crash_on_the_way_loses_nothing(disk: Path, faces: list[SpooledFace]) -> None:
    zero_page(disk / DATABASE, 1_000)
    async with writing(disk, RESERVE) as (writer, answered):
        sent = await send(writer, answered, most=FACES // 4)
    async with writing(disk, RESERVE) as (writer, answered):
        sent |= await send(writer, answered)
        assert len(sent & {each.id for each in faces}) >= FACES - 8
        await is_well(disk, writer, answered)


async def test_not_even_the_reserve_s_room_is_wanted(disk: Path, faces: list[SpooledFace]) -> None:
    """Somebody else takes it; there is none to write a byte until that one has gone."""
    zero_page(disk / DATABASE, 1_000)
    (disk / "reserve").unlink()
    filler = take_all_room(disk)
    async with writing(disk, RESERVE) as (writer, answered):
        sent = await send(writer, answered)
        writer.put(Quarantine(faces[0].id, "not_an_image"))
        assert len(sent & {each.id for each in faces}) >= FACES - 8
        assert writer.problem == DAMAGED_AND_FULL
        filler.unlink()
        await is_well(disk, writer, answered)


async def test_what_the_store_refuses_meanwhile_is_in_quarantine_afterwards(
    disk: Path, faces: list[SpooledFace]
) -> None:
    overwrite(disk, 1, b"\xa5" * 100)
    async with writing(disk, RESERVE) as (writer, answered):
        await send(writer, answered, refused=faces[0].id)
        await eventually(lambda: writer.problem is None, 20)
        await eventually(lambda: (writer.state.faces, writer.state.quarantined) == (0, 2), 10)


async def test_a_row_of_an_impossible_place_ends_nothing(disk: Path, faces: list[SpooledFace]) -> None:
    with contextlib.closing(sqlite3.connect(disk / DATABASE)) as connection, connection:
        connection.execute("UPDATE faces SET sequence = -5 WHERE id = ?", (faces[3].id,))
    overwrite(disk, 1, b"\xa5" * 100)
    async with writing(disk, RESERVE) as (writer, answered):
        assert faces[3].id in await send(writer, answered)
        await is_well(disk, writer, answered)


@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
async def test_a_replacement_that_cannot_be_put_in_its_place_is_not_made_again_over_it(
    disk: Path, faces: list[SpooledFace], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is aside by then: another copy would be one of nothing."""
    zero_page(disk / DATABASE, 1_000)
    calls = iter(range(100))

    def sync(folder: Path) -> None:
        if next(calls) == 1:
            raise OSError(getattr(errno, name), "of a test's own")
        sync_folder(folder)

    monkeypatch.setattr(replacement, "sync_folder", sync)
    sent: set[str] = set()
    with pytest.raises(OSError, match="of a test's own"):  # noqa: PT012 - wherever it is met
        async with raising(disk) as (writer, answered):
            sent |= await send(writer, answered)
            await asyncio.sleep(10)
    async with writing(disk, RESERVE) as (writer, answered):
        sent |= await send(writer, answered)
        assert len(sent & {each.id for each in faces}) >= FACES - 8
        await is_well(disk, writer, answered)


@contextlib.asynccontextmanager
async def raising(disk: Path) -> AsyncIterator[tuple[SpoolWriter, Answered]]:
    """A writer that ends with what goes wrong in it, as the service does."""
    writer, answered = SpoolWriter(Spool(disk, RESERVE, DEVICE), 1 << 30), Answered()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(answered.listen_to(writer))
            yield writer, answered
            running.cancel()
    except* OSError as errors:
        raise errors.exceptions[0] from None


async def test_a_copy_that_was_not_finished_takes_no_room_from_the_next(
    disk: Path, faces: list[SpooledFace]
) -> None:
    zero_page(disk / DATABASE, 1_000)
    (disk / replacement.MAKING).write_bytes(bytes(3 * 1024 * 1024))
    async with writing(disk, RESERVE) as (writer, answered):
        assert not (disk / replacement.MAKING).exists()
        sent = await send(writer, answered)
        assert len(sent & {each.id for each in faces}) >= FACES - 8
        await is_well(disk, writer, answered)
