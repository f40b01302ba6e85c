import contextlib
import shutil
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.forward.spool import database
from services.forward.spool.commands import (
    BacklogPart,
    BacklogRead,
    Changes,
    PutBackRequest,
    RowPlace,
    Unsendable,
)
from services.forward.spool.database import connect_to_read
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import SpoolTaken, prepare
from tests.forward_rig import DEVICE, EVERYTHING, RESERVE_BYTES, face


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


def test_faces_survive_as_they_were(folder: Path) -> None:
    faces = [face(number) for number in (1, 2, 3)]
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes(faces))
    spool.close()
    again = Spool(folder, RESERVE_BYTES, DEVICE)
    assert again.read(EVERYTHING).faces == faces
    assert again.last_sequence() == 3
    assert again.state().faces == 3
    again.close()


def test_a_batch_is_on_disk_when_write_returns(folder: Path, tmp_path: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([face(1)]))
    shutil.copytree(folder, tmp_path / "copy")  # what a power cut would leave, for nothing is written later
    copy = Spool(tmp_path / "copy", RESERVE_BYTES, DEVICE)
    assert copy.read(EVERYTHING).faces == spool.read(EVERYTHING).faces
    copy.close()
    spool.close()


def test_a_place_that_is_taken_is_no_receipt(folder: Path) -> None:
    """Two processes on one spool give out the same places; what does not get its own is not on the disk."""
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([face(1)]))
    other = face(2)
    with pytest.raises(sqlite3.IntegrityError):
        spool.write(Changes([SpooledFace(1, other.id, other.message)]))
    spool.close()


@pytest.mark.parametrize("name", ["st#te", "st%41te", "st?te", "st ate", "stâte", "a&b=c"])
def test_a_spool_in_a_folder_of_any_name_can_be_looked_into(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    prepare(folder)
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([face(1)]))
    with contextlib.closing(connect_to_read(folder / DATABASE)) as reader:
        assert reader.execute("SELECT count(*) FROM faces").fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    spool.close()


def test_a_spool_in_a_folder_that_was_replaced_is_given_up(folder: Path) -> None:
    """Another process may hold the new folder: whoever writes there too writes over its places."""
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([face(1)]))
    folder.rename(folder.with_name("moved"))
    prepare(folder)
    with pytest.raises(SpoolTaken):
        spool.tidy(is_tight=False)
    with pytest.raises(SpoolTaken):
        spool.replace("missing")
    spool.close()


def test_the_same_face_is_held_once(folder: Path) -> None:
    first = face(1)
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([first]))
    spool.write(Changes([SpooledFace(2, first.id, first.message)]))
    assert spool.read(EVERYTHING).faces == [first]
    assert spool.state().faces == 1
    spool.write(Changes(deletes=[first.id, "no such face"]))
    assert spool.state().faces == 0
    spool.close()


def test_a_read_returns_a_part_in_order(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([face(number) for number in range(1, 11)]))
    part = spool.read(BacklogRead(0, after=2, until=9, most_bytes=50_000))
    assert ([each.sequence for each in part.faces], part.until) == ([3, 4, 5], 5)
    part = spool.read(BacklogRead(0, after=8, until=9, most_bytes=1))
    assert ([each.sequence for each in part.faces], part.until) == ([9], 9)
    assert spool.read(BacklogRead(0, after=10, until=12, most_bytes=1)) == BacklogPart([], 12)
    spool.close()


def test_what_cannot_be_sent_is_told_apart_unread(folder: Path) -> None:
    good, refused, large, other = face(1), face(2), face(3, 30_000), face(4, device="another")
    refused = SpooledFace(2, refused.id, replace(refused.message, topic="faceferry/dev/refused/face"))
    damaged = SpooledFace(5, face(5).id, replace(face(5).message, topic="faceferry/dev's/no topic"))
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([good, refused, large, other, damaged]))
    unsendable = Unsendable(25_000, {refused.message.topic: "not_authorized"})
    assert spool.read(replace(EVERYTHING, unsendable=unsendable)) == BacklogPart(
        [good],
        EVERYTHING.until,
        {2: "not_authorized", 3: "packet_too_large", 4: "other_device", 5: "damaged"},
    )
    spool.close()


def test_only_letting_go_is_not_waited_for(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    with contextlib.closing(database.connect(folder / DATABASE)) as connection:
        level = partial(connection.execute, "PRAGMA synchronous")
        assert level().fetchone() == (2,)
        with contextlib.suppress(ZeroDivisionError), database.unsynced(connection):
            assert level().fetchone() == (1,)
            _ = 1 / 0
        assert level().fetchone() == (2,)
    spool.close()


def test_refused_faces_are_kept_with_the_reason_up_to_a_bound(folder: Path) -> None:
    faces = [face(number) for number in range(1, 6)]
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes(faces))
    for each in faces:
        spool.write(Changes(refused={each.id: "not_an_image"}))
    assert (spool.state().faces, spool.state().quarantined) == (0, 5)
    assert spool.bound_quarantine(50_000) == [each.id for each in faces[:3]]
    assert spool.state().quarantined == 2
    with sqlite3.connect(folder / DATABASE) as other:
        kept = other.execute("SELECT id, reason FROM quarantine").fetchall()
    other.close()
    assert set(kept) == {(each.id, "not_an_image") for each in faces[3:]}
    spool.close()


def test_a_deleted_database_is_noticed_and_its_faces_are_written_again(folder: Path) -> None:
    faces = [face(number) for number in (1, 2, 3)]
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes(faces))
    assert spool.is_in_place()
    (folder / DATABASE).unlink()
    assert not spool.is_in_place()
    spool.replace("missing")
    assert spool.is_in_place()
    assert spool.read(EVERYTHING).faces == faces
    spool.close()


def test_room_is_given_back_to_the_disk(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    faces = [face(number) for number in range(1, 301)]
    spool.write(Changes(faces))
    spool.tidy(is_tight=False)
    full_bytes = (folder / DATABASE).stat().st_size
    spool.write(Changes(deletes=[each.id for each in faces]))
    spool.tidy(is_tight=False)
    assert (folder / DATABASE).stat().st_size < full_bytes / 4
    assert spool.state().bytes < full_bytes / 4
    spool.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="FACEFERRY_SPOOL_PATH"):
        prepare(tmp_path / "file" / "spool")


def test_faces_of_another_device_become_ours_whether_they_were_met_or_still_wait(folder: Path) -> None:
    """One command is enough: an operator does not know how far forward has read."""
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    ours, met, waiting = (face(spool.next_sequence(), device=device) for device in (DEVICE, "wrong", "wrong"))
    spool.write(Changes([ours, met, waiting]))
    spool.whole.set_aside({}, {2: "other_device"})
    assert spool.whole.find_apart(PutBackRequest(reason="other_device", device="somebody")) == [
        RowPlace("set_aside", 1)
    ]
    places = spool.whole.find_apart(PutBackRequest(device=DEVICE))
    assert places == [RowPlace("set_aside", 1), RowPlace("faces", 3)]
    back, seen = spool.put_back(places, DEVICE)
    assert (len(back), seen) == (2, 2)
    assert spool.state().set_aside == {}
    assert spool.state().faces == 3
    found = spool.read(EVERYTHING)
    assert [each.message.topic for each in found.faces] == [ours.message.topic] * 3
    assert [each.message.payload for each in found.faces] == [
        each.message.payload for each in (ours, met, waiting)
    ]
    assert not found.bad
    spool.close()
