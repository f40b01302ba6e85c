"""forward's spool on a disk that has no room: what it holds can always be let go."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.forward import service
from services.forward.settings import ForwardSettings
from services.forward.spool.commands import Changes, Delete, Quarantine, SetAside
from services.forward.spool.database import SpoolFull
from services.forward.spool.disk import Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.writer import SpoolWriter
from tests.forward_rig import (
    DEVICE,
    EVERYTHING,
    RESERVE_BYTES,
    Answered,
    face,
    small_disk,
    take_all_room,
    writing,
)
from tests.support import eventually

RESERVE = 4 * RESERVE_BYTES


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 32) as folder:
        yield folder


async def fill(writer: SpoolWriter, answered: Answered) -> list[SpooledFace]:
    """Bring faces until some are turned away; return those that were written meanwhile."""
    before = len(answered.written)
    turned_away = len(answered.turned_away)
    for _ in range(5_000):
        writer.put(face(writer.next_sequence()))
        if len(answered.turned_away) > turned_away:
            break
        await asyncio.sleep(0)
    else:
        pytest.fail("the disk is larger than it should be")
    total = len(answered.written) + len(answered.turned_away)
    await asyncio.sleep(0.2)
    while len(answered.written) + len(answered.turned_away) > total:
        total = len(answered.written) + len(answered.turned_away)
        await asyncio.sleep(0.2)
    return answered.written[before:]


def held(folder: Path) -> list[SpooledFace]:
    with contextlib.closing(Spool(folder, RESERVE, DEVICE)) as spool:
        return spool.read(EVERYTHING).faces


async def test_full_drained_and_full_again_without_losing_or_wedging(disk: Path) -> None:
    async with writing(disk, RESERVE) as (writer, answered):
        kept: list[SpooledFace] = []
        for _ in range(3):
            kept += await fill(writer, answered)
            filler = take_all_room(disk)  # the released reserve too
            assert writer.problem == "the disk is full"
            for one in kept:
                writer.put(Delete(one.id))
            writer.put(face(writer.next_sequence()))
            await asyncio.sleep(1.5)
            assert writer.problem == "the disk is full"
            assert not (disk / "reserve").exists()
            filler.unlink()
            await eventually(lambda: writer.problem is None, 5)
            assert (disk / "reserve").exists()
            await eventually(lambda: writer.state.faces == 0, 5)
            kept.clear()
        new = face(writer.next_sequence())
        writer.put(new)
        await eventually(lambda: answered.written[-1:] == [new])
    assert held(disk) == [new]


async def test_no_face_is_written_while_the_reserve_is_gone(disk: Path) -> None:
    """Deletes alone make no room that new faces may take: they would leave none for the next deletes."""
    async with writing(disk, RESERVE) as (writer, answered):
        kept = await fill(writer, answered)
        take_all_room(disk)
        written = len(answered.written)
        for one in kept[:200]:
            writer.put(Delete(one.id))
            writer.put(face(writer.next_sequence()))
        await asyncio.sleep(2.5)
        assert len(answered.written) == written


async def test_started_on_a_full_disk_it_sends_what_it_holds_and_lets_go_when_there_is_room(
    disk: Path,
) -> None:
    async with writing(disk, RESERVE) as (writer, answered):
        kept = await fill(writer, answered)
        filler = take_all_room(disk)
    (disk / "reserve").unlink(missing_ok=True)
    take_all_room(disk)
    async with writing(disk, RESERVE) as (writer, answered):
        assert writer.problem == "the disk is full"
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        assert answered.parts[0].faces == kept
        for one in kept[10:]:
            writer.put(Delete(one.id))
        writer.put(Quarantine(kept[0].id, "not_an_image"))
        writer.put(SetAside(kept[1].id, "not_authorized"))
        await asyncio.sleep(1.2)
        assert writer.problem == "the disk is full"
        filler.unlink()
        await eventually(lambda: writer.problem is None, 5)
        await eventually(lambda: writer.state.faces == 8, 5)
        assert (writer.state.quarantined, writer.state.set_aside) == (1, {"not_authorized": 1})
    assert held(disk) == kept[2:10]


async def test_a_disk_that_fills_with_others_files_is_full_before_a_face_meets_it(disk: Path) -> None:
    async with writing(disk, RESERVE) as (writer, _):
        await asyncio.sleep(1.1)
        assert writer.problem is None
        filler = take_all_room(disk)
        await eventually(lambda: writer.problem == "the disk is full", 7)
        filler.unlink()
        await eventually(lambda: writer.problem is None, 5)


async def test_where_a_spool_cannot_even_be_made_forward_waits_for_room(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DISK_POLL_S", 0.02)
    filler = take_all_room(disk)
    settings = ForwardSettings(cloud_mqtt_url="mqtt://cloud", device="dev", spool_path=disk)
    opening = asyncio.create_task(service.open_spool(settings, service.SpoolOpening()))
    await asyncio.wait([opening], timeout=0.2)
    assert not opening.done()
    filler.unlink()
    async with asyncio.timeout(10):
        (await opening).close()


def test_a_spool_opens_on_a_full_disk_with_the_room_of_its_reserve(disk: Path) -> None:
    spool = Spool(disk, RESERVE, DEVICE)
    spool.write(Changes([face(1)]))
    spool.close()
    take_all_room(disk)
    spool = Spool(disk, RESERVE, DEVICE)
    try:
        (one,) = spool.read(EVERYTHING).faces
        assert spool.why_no_room() == "the disk is full"
        spool.write(Changes(deletes=[one.id]))
        assert spool.state().faces == 0
    finally:
        spool.close()


def test_a_disk_without_room_for_the_log_s_index_still_gives_its_faces(disk: Path) -> None:
    spool = Spool(disk, RESERVE, DEVICE)
    one = face(1)
    spool.write(Changes([one]))
    spool.close()
    (disk / "reserve").unlink()
    filler = take_all_room(disk)
    spool = Spool(disk, RESERVE, DEVICE)
    try:
        assert spool.read(EVERYTHING).faces == [one]
        with pytest.raises(SpoolFull):
            spool.write(Changes([face(2)]))
        filler.unlink()
        spool.tidy(is_tight=True)
        assert spool.why_no_room() is None
        spool.write(Changes([face(2)]))
    finally:
        spool.close()
    assert len(held(disk)) == 2
