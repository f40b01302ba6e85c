import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.common.faces import encode_face, mint
from services.common.times import from_unix_s
from services.common.topics import Source
from services.forward import service
from services.forward.database import SpoolDamaged, SpoolFull
from services.forward.outbox import BacklogRead
from services.forward.settings import ForwardSettings
from services.forward.spool import DATABASE, REPLACEMENT, Spool, prepare
from services.forward.spooled import SpooledFace
from tests.conftest import skip

EVERYTHING = BacklogRead(epoch=0, after=0, until=1 << 60, most_bytes=1 << 60)
RESERVE_BYTES = 1024 * 1024


def face(sequence: int, size_bytes: int = 20_000) -> SpooledFace:
    pixels = sequence.to_bytes(8) + os.urandom(size_bytes)
    made = mint(
        Source("dev", "cam"), from_unix_s(1_700_000_000 + sequence), pixels, "image/jpeg", {"box": "1,2,3,4"}
    )
    return SpooledFace(sequence, made.id, encode_face(made))


def fill(spool: Spool) -> Iterator[SpooledFace]:
    """Write faces one by one until there is no room; yield those that were written."""
    for sequence in range(1, 5_000):
        one = face(sequence)
        try:
            spool.write([one], [], {})
        except SpoolFull:
            return
        yield one
    pytest.fail("the disk is larger than it should be")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    if os.geteuid() != 0:
        skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", folder], check=False)
    if mounted.returncode != 0:
        skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_faces_survive_as_they_were(folder: Path) -> None:
    faces = [face(number) for number in (1, 2, 3)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    spool.close()
    again = Spool(folder, RESERVE_BYTES)
    assert again.read(EVERYTHING) == faces
    assert again.last_sequence() == 3
    assert again.state().faces == 3
    again.close()


def test_a_batch_is_on_disk_when_write_returns(folder: Path, tmp_path: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES)
    spool.write([face(1)], [], {})
    shutil.copytree(folder, tmp_path / "copy")  # what a power cut would leave, for nothing is written later
    copy = Spool(tmp_path / "copy", RESERVE_BYTES)
    assert copy.read(EVERYTHING) == spool.read(EVERYTHING)
    copy.close()
    spool.close()


def test_the_same_face_is_held_once(folder: Path) -> None:
    first = face(1)
    spool = Spool(folder, RESERVE_BYTES)
    spool.write([first], [], {})
    spool.write([SpooledFace(2, first.id, first.message)], [], {})
    assert spool.read(EVERYTHING) == [first]
    assert spool.state().faces == 1
    spool.write([], [first.id, "no such face"], {})
    assert spool.state().faces == 0
    spool.close()


def test_a_read_returns_a_part_in_order(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES)
    spool.write([face(number) for number in range(1, 11)], [], {})
    read = spool.read(BacklogRead(0, after=2, until=9, most_bytes=50_000))
    assert [each.sequence for each in read] == [3, 4, 5]
    assert [each.sequence for each in spool.read(BacklogRead(0, after=8, until=9, most_bytes=1))] == [9]
    assert spool.read(BacklogRead(0, after=10, until=10, most_bytes=1)) == []
    spool.close()


def test_refused_faces_are_kept_with_the_reason_up_to_a_bound(folder: Path) -> None:
    faces = [face(number) for number in range(1, 6)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    for each in faces:
        spool.write([], [], {each.id: "not_an_image"})
    assert (spool.state().faces, spool.state().quarantined) == (0, 5)
    assert spool.bound_quarantine(50_000) == 3
    assert spool.state().quarantined == 2
    with sqlite3.connect(folder / DATABASE) as other:
        kept = other.execute("SELECT id, reason FROM quarantine").fetchall()
    other.close()
    assert set(kept) == {(each.id, "not_an_image") for each in faces[3:]}
    spool.close()


@pytest.mark.parametrize("offset", [0, 100, 8192 * 12, 8192 * 40])
def test_a_damaged_database_is_replaced_and_what_can_be_read_is_kept(folder: Path, offset: int) -> None:
    faces = [face(number) for number in range(1, 31)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    spool.close()
    with (folder / DATABASE).open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 8192 * 2)
    damaged = Spool(folder, RESERVE_BYTES)
    try:
        found = damaged.read(EVERYTHING)
    except SpoolDamaged:  # some damage is met only on reading
        damaged.replace()
        found = damaged.read(EVERYTHING)
    assert {each.id for each in found} <= {each.id for each in faces}
    if offset > 100:
        assert len(found) >= 10
    assert list(folder.glob("damaged-*")) or len(found) == 30
    damaged.write([face(31)], [], {})
    assert damaged.read(EVERYTHING)[-1].sequence == 31
    damaged.close()


def test_a_replacement_that_was_cut_short_is_finished_or_done_again(folder: Path) -> None:
    """Whatever a crash leaves behind while a damaged database is replaced, the faces are found."""
    faces = [face(number) for number in range(1, 21)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    spool.close()
    shutil.copy(folder / DATABASE, folder / REPLACEMENT)
    (folder / DATABASE).rename(folder / "damaged-by-test-spool.db")  # moved aside, and then killed
    again = Spool(folder, RESERVE_BYTES)
    assert again.read(EVERYTHING) == faces
    again.close()
    (folder / REPLACEMENT).write_bytes(b"half a copy")  # killed while copying: the old one is still there
    again = Spool(folder, RESERVE_BYTES)
    again.replace()
    assert again.read(EVERYTHING) == faces
    again.close()


def test_damage_that_counting_meets_is_no_crash_loop(folder: Path) -> None:
    faces = [face(number) for number in range(1, 21)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    spool.close()
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_faces_1'"
        (page,) = database.execute(query).fetchone()
    with (folder / DATABASE).open("r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(b"\xa5" * 8192)
    again = Spool(folder, RESERVE_BYTES)
    found = again.read(EVERYTHING)
    assert found == faces
    again.close()


def test_a_deleted_database_is_noticed_and_its_faces_are_written_again(folder: Path) -> None:
    faces = [face(number) for number in (1, 2, 3)]
    spool = Spool(folder, RESERVE_BYTES)
    spool.write(faces, [], {})
    assert spool.is_in_place()
    (folder / DATABASE).unlink()
    assert not spool.is_in_place()
    spool.replace()
    assert spool.is_in_place()
    assert spool.read(EVERYTHING) == faces
    spool.close()


def test_a_full_disk_still_lets_faces_go(small_disk: Path) -> None:
    spool = Spool(small_disk, 8 * RESERVE_BYTES)
    assert spool.has_reserve
    written = list(fill(spool))
    held = spool.read(EVERYTHING)
    assert held == written
    spool.make_room()
    for start in range(0, len(held), 256):
        spool.write([], [each.id for each in held[start : start + 256]], {})
    assert spool.state().faces == 0
    for _ in range(20):
        spool.tidy()
    assert spool.has_reserve
    spool.write([face(5_000)], [], {})
    spool.close()


def take_all_room(folder: Path) -> Path:
    disk = os.statvfs(folder)
    with (folder / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, disk.f_bavail * disk.f_frsize)
    return folder / "filler"


async def test_where_a_spool_cannot_even_be_opened_forward_waits_for_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DISK_POLL_S", 0.02)
    filler = take_all_room(small_disk)
    settings = ForwardSettings(cloud_mqtt_url="mqtt://cloud", device="dev", spool_path=small_disk)
    opening = asyncio.create_task(service.open_spool(settings))
    await asyncio.wait([opening], timeout=0.2)
    assert not opening.done()
    filler.unlink()
    async with asyncio.timeout(10):
        (await opening).close()


def test_a_spool_opens_on_a_full_disk_with_the_room_of_its_reserve(small_disk: Path) -> None:
    spool = Spool(small_disk, RESERVE_BYTES)
    spool.write([face(1)], [], {})
    spool.close()
    take_all_room(small_disk)
    spool = Spool(small_disk, RESERVE_BYTES)
    try:
        (held,) = spool.read(EVERYTHING)
        assert not spool.has_reserve
        spool.write([], [held.id], {})
        assert spool.state().faces == 0
    finally:
        spool.close()


def test_room_is_given_back_to_the_disk(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES)
    faces = [face(number) for number in range(1, 301)]
    spool.write(faces, [], {})
    spool.tidy()
    full_bytes = (folder / DATABASE).stat().st_size
    spool.write([], [each.id for each in faces], {})
    spool.tidy()
    assert (folder / DATABASE).stat().st_size < full_bytes / 4
    assert spool.state().bytes < full_bytes / 4
    spool.close()


def test_a_newer_version_s_spool_is_left_alone(folder: Path) -> None:
    Spool(folder, RESERVE_BYTES).close()
    with sqlite3.connect(folder / DATABASE) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(SetupError, match="newer version"):
        Spool(folder, RESERVE_BYTES)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="FACEFERRY_SPOOL_PATH"):
        prepare(tmp_path / "file" / "spool")
