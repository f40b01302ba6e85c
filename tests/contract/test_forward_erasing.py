"""What is ordered to be erased leaves the spool wherever it lies there, and no byte of it stays."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.erasure import entries, keys
from services.common.erasure.entries import EntryKind, LogEntry
from services.common.erasure.reports import Report
from services.common.erasure.selection import Selection, to_body
from services.common.errors import Refused
from services.common.wire.faces import encode_face, mint
from services.common.wire.message import Message
from services.common.wire.topics import Source
from services.forward.erasures import ErasureOrders
from services.forward.spool import tables
from services.forward.spool.commands import Changes, Erase
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.erasure_log import ORDERS, ErasureLog
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from services.forward.spool.rows import UNANSWERED
from services.forward.spool.writer import SpoolWriter
from tests.forward_rig import DEVICE, RESERVE_BYTES, Answered, running
from tests.remains import picture, remains
from tests.support import eventually

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VISIT = "20260131T120000.000000Z-0123456789abcdef"
PRIVATE = keys.make().decode()
SIGN, VERIFY = keys.signer(PRIVATE)
ALL = Selection(device=DEVICE, until=BEGAN + 1_000 * MINUTE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


def taken(number: int, camera: str = "cam", **known: str) -> SpooledFace:
    made = mint(Source(DEVICE, camera), BEGAN + number * MINUTE, picture(number), "image/jpeg", known)
    return SpooledFace(number, made.id, encode_face(made))


def erase_all(spool: Spool, selection: Selection) -> None:
    while spool.whole.erase(selection):
        pass
    assert spool.whole.scrub() is not None


def held(folder: Path, table: str) -> set[str]:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return {face_id for (face_id,) in database.execute(f"SELECT id FROM {table}")}  # noqa: S608


def order(selection: Selection, previous: LogEntry | None = None) -> LogEntry:
    return entries.write(previous, BEGAN + 2_000 * MINUTE, EntryKind.ORDERED, to_body(selection), SIGN)


def test_no_byte_of_what_was_erased_is_left_wherever_it_was(folder: Path) -> None:
    """Those that wait, that were refused, that are set aside; and of those that were delivered before."""
    faces = [taken(number) for number in range(1, 201)]
    kept = [taken(number) for number in range(1_001, 1_041)]
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        # As SQLite is by itself; Debian's overwrites all that is ever deleted.
        spool.whole.connection.execute("PRAGMA secure_delete = OFF").fetchall()
        for face, other in zip(faces, kept * 5, strict=True):
            spool.write(Changes([face, other]))
        ids = [face.id for face in faces]
        spool.write(Changes(refused=dict.fromkeys(ids[50:100], "bad_image")))
        while spool.whole.set_aside(dict.fromkeys(ids[100:150], UNANSWERED), {}):
            if len(held(folder, "set_aside")) == 50:
                break
        spool.write(Changes(deletes=ids[:50]))  # at last, so that nothing comes to lie where they were
        assert {number for some in remains(folder, range(1, 201)).values() for number in some}
        erase_all(spool, Selection(device=DEVICE, until=BEGAN + 201 * MINUTE))
        assert remains(folder, range(1, 201)) == {}  # while it is open: its log is a file, too
        state = spool.state()
        assert (state.faces, state.quarantined, state.set_aside) == (40, 0, {})
    assert remains(folder, range(1, 201)) == {}
    assert held(folder, "faces") == {face.id for face in kept}
    assert all(number in remains(folder, [number])[DATABASE] for number in range(1_001, 1_041))


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["cam", "yard"]), st.booleans()),
        max_size=12,
        unique=True,
    ),
    st.builds(
        Selection,
        ids=st.frozensets(st.integers(0, 9).map(lambda number: taken(number).id), max_size=3),
        visit=st.none() | st.just(VISIT),
        device=st.none() | st.sampled_from([DEVICE, "other"]),
        camera=st.none() | st.sampled_from(["cam", "yard"]),
        since=st.none() | st.integers(0, 9).map(lambda number: BEGAN + number * MINUTE),
        until=st.integers(0, 10).map(lambda number: BEGAN + number * MINUTE),
    ),
)
def test_what_goes_is_what_a_selection_takes(
    tmp_path_factory: pytest.TempPathFactory, faces: list[tuple[int, str, bool]], selection: Selection
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    rows = [
        (Source(DEVICE, camera), VISIT if in_visit else None, taken(number, camera, **known))
        for number, camera, in_visit in faces
        for known in [{"visit": VISIT} if in_visit else {}]
    ]
    if not selection.is_range:
        selection = Selection(selection.ids, selection.visit, selection.device, selection.camera)
    spooled = [SpooledFace(place, face.id, face.message) for place, (_, _, face) in enumerate(rows, 1)]
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes(spooled))
        before = held(folder, "faces")
        while spool.whole.erase(selection):
            pass
    # Of one id the row that came first is there; the second is a copy with other attributes.
    first: dict[str, tuple[Source, str | None]] = {}
    for source, visit, face in rows:
        first[face.id] = (source, visit)
    gone = {face_id for face_id, (source, visit) in first.items() if selection.takes(source, face_id, visit)}
    assert before - held(folder, "faces") == gone


def test_a_damaged_row_and_a_damaged_database_go_with_it(folder: Path) -> None:
    (folder / "damaged-20260101T000000-spool.db").write_bytes(picture(7))
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes([taken(1)]))
        with closing(sqlite3.connect(folder / DATABASE)) as database, database:
            database.execute("UPDATE faces SET id = x'ff00', attributes = x'ff'")
        spool.whole.set_aside({}, {1: "damaged"})
        erase_all(spool, Selection(ids=frozenset({taken(9).id})))
        assert spool.state().set_aside == {}
    assert remains(folder, [1, 7]) == {}


def test_a_large_spool_is_written_anew_when_most_of_it_has_been_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_WRITTEN_ANEW_BYTES", 500_000)
    faces = [taken(number) for number in range(1, 60)]
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes(faces))
        while spool.whole.erase(Selection(ids=frozenset({faces[0].id}))):
            pass
        assert spool.whole.scrub() is None
        spool.write(Changes(deletes=[face.id for face in faces[10:]]))
        assert spool.whole.scrub() == 0
    assert remains(folder, [1, *range(11, 60)]) == {}


def test_who_reads_the_database_meanwhile_is_waited_for(folder: Path) -> None:
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes([taken(1)]))
        with closing(sqlite3.connect(folder / DATABASE)) as reader:
            reader.execute("BEGIN").fetchall()
            assert reader.execute("SELECT count(*) FROM faces").fetchone() == (1,)
            while spool.whole.erase(ALL):
                pass
            assert spool.whole.scrub() is None
        assert spool.whole.scrub() == 0
    assert remains(folder, [1]) == {}


async def test_the_writer_carries_an_order_out_once_and_remembers_it(folder: Path) -> None:
    faces = [taken(number) for number in range(1, 101)]
    given = order(ALL)
    book = ErasureLog(folder, DEVICE, VERIFY)
    answered = Answered()
    writer = SpoolWriter(Spool(folder, RESERVE_BYTES, DEVICE), 1 << 30, book)
    async with running(writer, answered):
        for face in faces:
            writer.put(face)
        writer.put(Erase(given))
        await eventually(lambda: answered.reports)
    assert answered.reports[0].gone == {"waiting": 100, "quarantine": 0, "set_aside": 0, "files": 0}
    assert sorted(answered.expired) == sorted(face.id for face in faces)
    assert remains(folder, range(1, 101)) == {}
    again = ErasureLog(folder, DEVICE, VERIFY)
    assert (list(again.orders.values()), again.reports, again.unfinished) == (
        [given],
        {given.name: answered.reports[0]},
        [],
    )


async def test_what_is_read_out_of_a_damaged_database_is_erased_again(folder: Path) -> None:
    """A page that was free is no place where an erased face may wait."""
    book = ErasureLog(folder, DEVICE, VERIFY)
    book.add(given := order(ALL))
    book.done(Report(given.name, DEVICE, {}))
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes([taken(number) for number in range(1, 30)]))
    writer = SpoolWriter(Spool(folder, RESERVE_BYTES, DEVICE), 1 << 30, book)
    answered = Answered()
    async with running(writer, answered):
        (folder / DATABASE).unlink()  # people do; what the open file holds is rescued
        writer.put(taken(2_000))
        await eventually(lambda: answered.written)
        await eventually(lambda: not remains(folder, range(1, 30)))
        await eventually(lambda: held(folder, "faces") == {taken(2_000).id})
    assert answered.reports == []  # it was reported before


def test_a_line_that_was_cut_off_is_none_and_hides_no_other(folder: Path) -> None:
    first, second = order(ALL), order(Selection(device=DEVICE, until=BEGAN))
    book = ErasureLog(folder, DEVICE, VERIFY)
    book.add(first)
    with (folder / ORDERS).open("ab") as file:
        file.write(second.line[:100])
    book = ErasureLog(folder, DEVICE, VERIFY)
    assert list(book.orders) == [first.name]
    book.add(second)
    book.done(Report(first.name, DEVICE, {"waiting": 1}))
    book = ErasureLog(folder, DEVICE, VERIFY)
    assert list(book.orders) == [first.name, second.name]
    assert book.unfinished == [second]


class Obeyed:
    """What a device does with what it is told."""

    def __init__(self, folder: Path) -> None:
        self.put: list[Erase] = []
        self.told: list[Selection] = []
        self.book = ErasureLog(folder, DEVICE, VERIFY)
        self.erasures = ErasureOrders(self.book, self.put.append)
        self.erasures.add_holder(self.told.append)

    def hear(self, line: bytes, topic: str) -> Message | None:
        return self.erasures.hear(Message(topic=topic, payload=line, qos=1, retain=True))


def topic_of(given: LogEntry, device: str = DEVICE) -> str:
    return f"faceferry/{device}/erase/{given.name}"


def test_a_device_obeys_what_is_signed_for_it_and_nothing_else(folder: Path) -> None:
    obeyed = Obeyed(folder)
    good, other = order(ALL), order(Selection(device="other", until=BEGAN))
    forger, _ = keys.signer(keys.make().decode())
    forged = entries.write(None, BEGAN + 9_000 * MINUTE, EntryKind.ORDERED, to_body(ALL), forger)
    said = entries.write(None, BEGAN, EntryKind.ERASED, {"of": "x"}, SIGN)
    future = entries.write(None, BEGAN, EntryKind.ORDERED, to_body(ALL), SIGN)
    for line, topic, reason in (
        (other.line, topic_of(other), "other_device"),
        (forged.line, topic_of(forged), "bad_signature"),
        (good.line[:-2], topic_of(good), "bad_entry"),
        (good.line.replace(b"dev", b"own"), topic_of(good), "bad_signature"),
        (said.line, topic_of(said), "bad_order"),
        (future.line, topic_of(future), "bad_order"),
        (good.line, topic_of(other), "bad_topic"),
        (b"x" * 300_000, topic_of(good), "bad_entry"),
    ):
        with pytest.raises(Refused) as told:
            obeyed.hear(line, topic)
        assert told.value.reason == reason
    assert (obeyed.put, obeyed.told) == ([], [])
    assert obeyed.hear(b"", topic_of(good)) is None
    assert obeyed.hear(good.line, topic_of(good)) is None
    assert obeyed.hear(good.line, topic_of(good)) is None  # again, before it is done
    assert [each.order for each in obeyed.put] == [good]
    assert obeyed.told == [good.selection]


def test_an_order_that_was_carried_out_is_answered_again_and_one_that_was_not_goes_on(folder: Path) -> None:
    done, left = order(ALL), order(Selection(visit=VISIT))
    book = ErasureLog(folder, DEVICE, VERIFY)
    for each in (done, left):
        book.add(each)
    book.done(Report(done.name, DEVICE, {"waiting": 3}))
    obeyed = Obeyed(folder)
    obeyed.erasures.resume()
    assert [each.order for each in obeyed.put] == [left]
    answer = obeyed.hear(done.line, topic_of(done))
    assert answer is not None
    assert (answer.topic, answer.retain) == (f"faceferry/{DEVICE}/erased/{done.name}", False)


def test_what_was_erased_and_comes_late_is_not_taken(folder: Path) -> None:
    book = ErasureLog(folder, DEVICE, VERIFY)
    book.add(order(Selection(device=DEVICE, until=BEGAN + 5 * MINUTE)))
    obeyed = Obeyed(folder)
    old, young = (
        mint(Source(DEVICE, "cam"), BEGAN + minutes * MINUTE, picture(1), "image/jpeg", {})
        for minutes in (4, 5)
    )
    obeyed.erasures.check(young.source, young.id, None)
    with pytest.raises(Refused, match="erased"):
        obeyed.erasures.check(old.source, old.id, None)
