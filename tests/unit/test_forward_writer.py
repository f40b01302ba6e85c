import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from services.common.wire.message import Message
from services.forward.spool import rows
from services.forward.spool.commands import Delete, PutBack, PutBackRequest, Quarantine, SetAside
from services.forward.spool.disk import DATABASE
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from tests.forward_rig import DEVICE, EVERYTHING, face, writing
from tests.support import eventually


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


async def test_every_copy_of_a_face_is_answered(folder: Path) -> None:
    """Each has a delivery that holds one of the link's places until it is answered."""
    message = Message(topic="t", payload=b"x", content_type="image/jpeg")
    async with writing(folder) as (writer, answered):
        for sequence in range(1, 11):
            writer.put(SpooledFace(sequence, "the same", message))
        writer.put(SpooledFace(11, "stored meanwhile", message))
        writer.put(SpooledFace(12, "stored meanwhile", message))
        writer.put(Delete("stored meanwhile"))
        await eventually(lambda: len(answered.written) == 12)
        assert sorted(each.sequence for each in answered.written) == list(range(1, 13))
        await eventually(lambda: writer.state.faces == 1)  # it is looked at behind the answers


async def test_what_is_set_aside_is_kept_and_comes_back_behind_all_others(folder: Path) -> None:
    async with writing(folder) as (writer, answered):
        made = [face(writer.next_sequence()) for _ in range(100)]
        for one in made:
            writer.put(one)
        for one in made[:90]:
            writer.put(SetAside(one.id, "not_authorized"))
        writer.put(Quarantine(made[90].id, "not_an_image"))
        await eventually(lambda: writer.state.set_aside == {"not_authorized": 90})
        assert writer.state.faces == 9
        writer.put(PutBack(PutBackRequest(reason="not_authorized")))
        await eventually(lambda: writer.state.faces == 99)
        await eventually(lambda: writer.state.set_aside == {})
        assert writer.state.quarantined == 1
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        assert [one.id for one in answered.parts[0].faces] == [one.id for one in [*made[91:], *made[:90]]]
        assert answered.put_back[-1] == answered.parts[0].faces[-1].sequence


async def test_only_faces_of_the_device_that_is_asked_for_are_put_back(folder: Path) -> None:
    ours, other = face(1), face(2, device="other")
    async with writing(folder) as (writer, _):
        for one in (ours, other):
            writer.put(one)
            writer.put(SetAside(one.id, rows.OTHER_DEVICE))
        writer.put(PutBack(PutBackRequest(reason=rows.OTHER_DEVICE, of=DEVICE)))
        await eventually(lambda: (writer.state.faces, writer.state.set_aside) == (1, {rows.OTHER_DEVICE: 1}))


async def test_one_of_a_reason_can_be_tried_for_all(folder: Path) -> None:
    made = [face(number) for number in range(1, 4)]
    async with writing(folder) as (writer, answered):
        for one in made:
            writer.put(one)
            writer.put(SetAside(one.id, "not_authorized"))
        writer.put(PutBack(PutBackRequest(reason="not_authorized"), most=1))
        await eventually(lambda: answered.tried)
        assert answered.tried == [("not_authorized", [made[0].id])]
        await eventually(lambda: writer.state.set_aside == {"not_authorized": 2})


async def test_what_people_ask_for_is_done_while_forward_runs_and_once_it_starts(folder: Path) -> None:
    made = [face(number) for number in range(1, 6)]
    stranger = face(6, device="other")

    def ask(request: PutBackRequest) -> None:
        with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
            rows.ask(connection, request)

    async with writing(folder) as (writer, _):
        for one in [*made, stranger]:
            writer.put(one)
        for one in made[:3]:
            writer.put(Quarantine(one.id, "not_an_image"))
        writer.put(EVERYTHING)
        await eventually(lambda: writer.state.set_aside == {"other_device": 1})
        ask(PutBackRequest(reason="not_an_image"))
        await eventually(lambda: writer.state.quarantined == 0, 10)
        assert writer.state.faces == 5
    ask(PutBackRequest(device="dev"))
    async with writing(folder) as (writer, answered):
        await eventually(lambda: writer.state.faces == 6)
        assert writer.state.set_aside == {}
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        renamed = answered.parts[0].faces[-1]
        assert renamed.message.topic == "faceferry/dev/cam/face"
        assert renamed.id != stranger.id
        assert renamed.message.payload == stranger.message.payload
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection:
        assert rows.requests(connection) == []


async def test_a_request_for_what_comes_apart_again_ends(folder: Path) -> None:
    """Without --device a face of another device can only come apart again: once, not for ever."""
    async with writing(folder) as (writer, answered):
        for number in range(1, 101):
            writer.put(face(number, 500, device="other"))
        writer.put(EVERYTHING)
        await eventually(lambda: writer.state.set_aside == {"other_device": 100})
        writer.put(PutBack(PutBackRequest()))
        await eventually(lambda: writer.state.faces == 100)
        for _ in range(4):
            writer.put(EVERYTHING)
        await eventually(lambda: len(answered.parts) == 5)
        await asyncio.sleep(0.3)
        assert writer.state.set_aside == {"other_device": 100}
        assert not answered.parts[-1].faces


async def test_quarantine_lets_go_of_its_oldest_only_in_words(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [face(number) for number in range(1, 6)]
    async with writing(folder, quarantine_max_bytes=50_000) as (writer, _):
        for one in made:
            writer.put(one)
            writer.put(Quarantine(one.id, "not_an_image"))
        await eventually(lambda: writer.state.quarantined == 2)
    said = capsys.readouterr().out
    assert "forward.quarantine_full" in said
    assert made[0].id in said


async def test_a_face_given_up_as_unanswered_is_let_go_when_stored_and_kept_when_refused(
    folder: Path,
) -> None:
    async with writing(folder) as (writer, _):
        stored, refused = face(writer.next_sequence()), face(writer.next_sequence())
        for one in (stored, refused):
            writer.put(one)
            writer.put(SetAside(one.id, rows.UNANSWERED))
        writer.put(PutBack(PutBackRequest(id="none")))  # which has what is set aside moved first
        writer.put(Delete(stored.id))
        writer.put(Quarantine(refused.id, "not_an_image"))
        await eventually(lambda: writer.state.set_aside == {rows.UNANSWERED: 1})
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection:
        assert connection.execute("SELECT id FROM set_aside").fetchall() == [(refused.id,)]
