"""Damage on the disk: bad rows are set aside one by one, a bad file is replaced once, and nothing loops."""

import contextlib
import dataclasses
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.common.runtime.files import sync_folder
from services.forward.spool import replacement
from services.forward.spool.commands import Changes, Delete, PutBackRequest
from services.forward.spool.database import SpoolDamaged
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from services.forward.spool.replacement import COMPLETE, MAKING, damaged_files
from tests.forward_rig import ALL_FIRSTS, DEVICE, EVERYTHING, PAGE, RESERVE_BYTES, face, writing, zero_page
from tests.support import eventually

FACES = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


@pytest.fixture
def faces(folder: Path) -> list[SpooledFace]:
    """What a spool holds: 30 faces, 3 more in quarantine and 3 set aside."""
    made = [face(number) for number in range(1, FACES + 7)]
    with contextlib.closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes(made))
        spool.write(Changes(refused={each.id: "not_an_image" for each in made[FACES : FACES + 3]}))
        spool.whole.set_aside({each.id: "not_authorized" for each in made[FACES + 3 :]}, {})
    return made[:FACES]


def opened(folder: Path) -> Spool:
    return Spool(folder, RESERVE_BYTES, DEVICE)


def everything(spool: Spool) -> list[SpooledFace]:
    """All faces, read in two passes as forward does it, over whatever damage is met on the way."""
    try:
        return two_passes(spool)
    except SpoolDamaged as error:
        spool.replace(str(error))
        return two_passes(spool)


def two_passes(spool: Spool) -> list[SpooledFace]:
    firsts = spool.read(ALL_FIRSTS).faces
    found = spool.read(EVERYTHING).faces
    assert {each.id for each in firsts} <= {each.id for each in found}
    return found


def sql(folder: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


BAD_ROWS: dict[str, tuple[str, object]] = {
    "attributes cut": ("attributes", '[["specversion","1.0"'),
    "attributes a number": ("attributes", "7"),
    "attributes of numbers": ("attributes", "[[1,2]]"),
    "attributes of triples": ("attributes", '[["a","b","c"]]'),
    "attributes nested": ("attributes", "[" * 100_000),
    "attributes with a lone surrogate": ("attributes", '[["a","\\ud800"]]'),
    "attributes of another face": ("attributes", '[["specversion","1.0"],["type","faceferry.face.v1"]]'),
    "not UTF-8": ("topic", b"faceferry/dev/\xff/face"),
    "a bad topic": ("topic", "faceferry/dev/../face"),
    "a wildcard": ("topic", "faceferry/dev/+/face"),
    "no topic": ("topic", ""),
    "another camera": ("topic", "faceferry/dev/other/face"),
    "a bad id": ("id", "20231114T221321.000000Z-00000000000000000000000000000000"),
    "an id that is none": ("id", "x"),
    "a bad payload": ("payload", b"\xff\xd8\xff"),
    "a payload that is text": ("payload", "text"),
    "no payload": ("payload", b""),
    "a bad content type": ("content_type", "text/html"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
async def test_a_bad_row_is_set_aside_and_holds_up_no_other(
    folder: Path, faces: list[SpooledFace], kind: str
) -> None:
    column, value = BAD_ROWS[kind]
    before = sql(folder, "SELECT payload FROM faces WHERE sequence = 5")
    sql(folder, f"UPDATE faces SET {column} = ? WHERE sequence = 5", value)  # noqa: S608 - our own names
    async with writing(folder) as (writer, answered):
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        await eventually(lambda: writer.state.faces == FACES - 1)
    assert answered.parts[0].faces == [each for each in faces if each.sequence != 5]
    assert writer.state.set_aside == {"not_authorized": 3, "damaged": 1}
    kept = sql(folder, "SELECT payload FROM set_aside WHERE reason = 'damaged'")
    assert column == "payload" or kept == before
    assert not damaged_files(folder)


async def test_a_thousand_bad_rows_are_passed_in_parts(folder: Path) -> None:
    with contextlib.closing(opened(folder)) as spool:
        for start in range(1, 1_001, 100):
            spool.write(Changes([face(number, 500) for number in range(start, start + 100)]))
        good = face(1_001)
        spool.write(Changes([good]))
    sql(folder, "UPDATE faces SET topic = 'x' WHERE sequence <= 1000")
    with contextlib.closing(opened(folder)) as spool:
        read, found, parts = EVERYTHING, [], 0
        while read.after < 1_001:
            part = spool.read(read)
            found += part.faces
            spool.whole.set_aside({}, part.bad)
            read = dataclasses.replace(read, after=part.until)
            parts += 1
            assert parts < 10
        assert found == [good]
        assert spool.state().set_aside == {"damaged": 1_000}


def root_of(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        [(page,)] = sql(folder, "SELECT rootpage FROM sqlite_master WHERE name = ?", name)
        assert isinstance(page, int)
        overwrite(folder / DATABASE, (page - 1) * PAGE, b"\xa5" * PAGE)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        size = (folder / DATABASE).stat().st_size
        os.truncate(folder / DATABASE, int(size * share))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "the header": (lambda folder: overwrite(folder / DATABASE, 0, b"\xa5" * 100), FACES),
    "the first page zeroed": (lambda folder: overwrite(folder / DATABASE, 0, bytes(PAGE)), FACES),
    "the faces' root": (root_of("faces"), FACES),
    "the ids' index": (root_of("sqlite_autoindex_faces_1"), FACES),
    "the first pictures' index": (root_of("faces_first"), FACES),
    "the quarantine's root": (root_of("quarantine"), FACES),
    "a page zeroed": (lambda folder: zero_page(folder / DATABASE, 20), FACES - 2),
    "another page zeroed": (lambda folder: zero_page(folder / DATABASE, 45), FACES - 2),
    "user_version 0": (lambda folder: sql(folder, "PRAGMA user_version = 0"), FACES),
    "user_version 1": (lambda folder: sql(folder, "PRAGMA user_version = 1"), FACES),
    "a table missing": (lambda folder: sql(folder, "DROP TABLE set_aside"), FACES),
    "a column missing": (lambda folder: sql(folder, "ALTER TABLE quarantine DROP COLUMN refused_at"), FACES),
    "cut in half": (cut(0.5), FACES // 3),
    "cut within a page": (lambda folder: os.truncate(folder / DATABASE, 50 * PAGE + 100), 5),
    "empty": (cut(0), 0),
    "a text": (lambda folder: (folder / DATABASE).write_text("no database\n" * 1_000), 0),
}


BORNE = {"the quarantine's root", "user_version 0", "user_version 1"}
"""With these the file is used on: no face lies there, or an earlier version is brought up to date."""


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_replaced_once_with_all_that_can_be_read(
    folder: Path, faces: list[SpooledFace], kind: str
) -> None:
    damage, at_least = DAMAGES[kind]
    damage(folder)
    for _ in range(3):
        with contextlib.closing(opened(folder)) as spool:
            found = everything(spool)
            assert set(map(as_sent, found)) <= set(map(as_sent, faces))
            assert len(found) >= at_least
            new = face(spool.next_sequence())
            spool.write(Changes([new]))
            assert spool.read(EVERYTHING).faces == [*found, new]
            spool.write(Changes(deletes=[new.id]))
    assert len(damaged_files(folder)) == (kind not in BORNE)


def as_sent(one: SpooledFace) -> tuple[str, bytes]:
    return one.id, one.message.payload


@pytest.mark.parametrize("kind", ["the header", "the faces' root", "the ids' index", "the first page zeroed"])
def test_what_is_apart_is_rescued_too(folder: Path, faces: list[SpooledFace], kind: str) -> None:
    assert faces
    DAMAGES[kind][0](folder)
    with contextlib.closing(opened(folder)) as spool:
        everything(spool)
        assert spool.state().quarantined == 3
        assert spool.state().set_aside == {"not_authorized": 3}
        assert len(spool.whole.find_apart(PutBackRequest())) == 6


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_ends_no_process_twice(folder: Path, faces: list[SpooledFace], seed: int) -> None:
    rng = random.Random(seed)
    size = (folder / DATABASE).stat().st_size
    places = rng.choice([1, 3, 10])
    for _ in range(places):
        overwrite(folder / DATABASE, rng.randrange(size), rng.randbytes(rng.choice([1, 8, 200, PAGE])))
    with contextlib.closing(opened(folder)) as spool:
        found = everything(spool)
        assert set(map(as_sent, found)) <= set(map(as_sent, faces))
        assert len(found) >= FACES - 2 * places, "each place lies in two pages at most"
        spool.write(Changes([face(spool.next_sequence())]))
        assert len(everything(spool)) == len(found) + 1
        spool.tidy(is_tight=False)


def test_what_only_the_log_holds_is_rescued(folder: Path) -> None:
    made = [face(number) for number in range(1, 11)]
    spool = opened(folder)
    spool.write(Changes(made))
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)  # as after a power cut: nothing has been brought into the database
    spool.close()
    overwrite(copy / DATABASE, 0, bytes(PAGE))
    overwrite(copy / f"{DATABASE}-wal", 0, b"\xa5" * 12)  # SQLite itself takes this log for none
    with contextlib.closing(opened(copy)) as rescued:
        assert {as_sent(each) for each in everything(rescued)} == {as_sent(each) for each in made}


@pytest.mark.usefixtures("faces")
async def test_damage_that_is_met_at_work_ends_nothing(folder: Path) -> None:
    async with writing(folder) as (writer, answered):
        await eventually(lambda: writer.state.faces == FACES)
        zero_page(folder / DATABASE, 20)
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        assert len(answered.parts[0].faces) >= FACES - 2
        new = face(writer.next_sequence())
        writer.put(new)
        await eventually(lambda: answered.written == [new])
        for each in answered.parts[0].faces:
            writer.put(Delete(each.id))
        writer.put(EVERYTHING)
        await eventually(lambda: len(answered.parts) == 2)
        assert answered.parts[1].faces == [new]


@pytest.mark.usefixtures("faces")
@pytest.mark.parametrize("steps", range(9))
def test_a_crash_at_any_step_of_a_replacement_loses_nothing(
    folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends the replacement after each of its renames, removals and synchronisations in turn."""
    zero_page(folder / DATABASE, 20)
    shutil.copytree(folder, folder.with_name("other"))
    with contextlib.closing(opened(folder.with_name("other"))) as spool:
        expected = {as_sent(each) for each in everything(spool)}
    left = [steps]

    def counted(work: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return work(*arguments, **options)

        return step

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(replacement, "sync_folder", counted(sync_folder))
        with contextlib.closing(opened(folder)) as spool:
            everything(spool)
    with contextlib.closing(opened(folder)) as spool:
        assert {as_sent(each) for each in everything(spool)} == expected
        assert spool.state().quarantined == 3
    assert not (folder / COMPLETE).exists()


def test_a_half_made_copy_is_made_again(folder: Path, faces: list[SpooledFace]) -> None:
    (folder / MAKING).write_bytes(b"half a copy")
    with contextlib.closing(opened(folder)) as spool:
        spool.replace("by the test")
        assert spool.read(EVERYTHING).faces == faces


def test_old_damaged_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1_800_000_000, 1_800_000_010))
    rename = Path.rename

    def aged(path: Path, target: Path) -> Path:
        if target.name == COMPLETE:
            at = next(times)
            os.utime(path, (at, at))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", aged)
    with contextlib.closing(opened(folder)) as spool:
        for _ in range(5):
            spool.replace("by the test")
    kept = damaged_files(folder)
    assert len(kept) == replacement.MOST_DAMAGED
    assert kept[-1].name == "damaged-20270115T080004-spool.db"


def test_a_newer_version_s_spool_is_left_alone(folder: Path) -> None:
    opened(folder).close()
    sql(folder, "PRAGMA user_version = 99")
    with pytest.raises(SetupError, match="newer version"):
        opened(folder)


def test_a_spool_of_the_version_before_goes_on(folder: Path) -> None:
    made = [face(number) for number in range(1, 4)]
    with contextlib.closing(opened(folder)) as spool:
        spool.write(Changes(made, refused={made[2].id: "not_an_image"}))
    for statement in ("DROP TABLE set_aside", "DROP TABLE requests", "PRAGMA user_version = 1"):
        sql(folder, statement)
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(EVERYTHING).faces == made[:2]
        assert spool.state().quarantined == 1
        spool.whole.set_aside({made[0].id: "not_authorized"}, {})
    assert not damaged_files(folder)


def test_a_log_beside_a_missing_or_emptied_database_is_read(folder: Path) -> None:
    """SQLite would delete it: a log without a database is nothing to it."""
    made = [face(number) for number in range(1, 11)]
    spool = opened(folder)
    spool.write(Changes(made))
    for name in ("missing", "emptied"):
        copy = folder.with_name(name)
        shutil.copytree(folder, copy)
        (copy / DATABASE).unlink() if name == "missing" else os.truncate(copy / DATABASE, 0)
        with contextlib.closing(opened(copy)) as rescued:
            assert {as_sent(each) for each in everything(rescued)} == {as_sent(each) for each in made}
    spool.close()


def test_pages_that_lead_back_to_what_was_read_end_no_rescue(folder: Path) -> None:
    made = [face(number, 500) for number in range(1, 301)]
    with contextlib.closing(opened(folder)) as spool:
        spool.write(Changes(made))
    data = (folder / DATABASE).read_bytes()
    leaves = [
        at
        for at in range(PAGE, len(data), PAGE)
        if data[at] == 0x0D and int.from_bytes(data[at + 3 : at + 5]) > 2
    ]
    first = leaves[len(leaves) // 3]
    overwrite(folder / DATABASE, first + 10, data[first + 8 : first + 10])  # two cells are one
    with contextlib.closing(opened(folder)) as spool:
        spool.replace("by the test")
        assert len(everything(spool)) >= 299


def test_a_receipt_for_a_face_whose_row_is_damaged_repairs_the_row(folder: Path) -> None:
    good = face(1)
    with contextlib.closing(opened(folder)) as spool:
        spool.write(Changes([good]))
        sql(folder, "UPDATE faces SET payload = ?", b"damaged")
        spool.write(Changes([SpooledFace(2, good.id, good.message)]))
        assert [as_sent(each) for each in spool.read(EVERYTHING).faces] == [as_sent(good)]


@pytest.mark.parametrize("place", [(1 << 63) - 1, 1 << 60, 0, -5])
def test_a_row_of_any_place_is_sent_and_stops_no_other(folder: Path, place: int) -> None:
    odd, good = face(1), face(2)
    with contextlib.closing(opened(folder)) as spool:
        spool.write(Changes([odd, good]))
    sql(folder, "UPDATE faces SET sequence = ? WHERE sequence = 1", place)
    with contextlib.closing(opened(folder)) as spool:
        new = face(spool.next_sequence())
        spool.write(Changes([new]))
        read = dataclasses.replace(EVERYTHING, after=-(1 << 63), until=spool.last_sequence())
        found = {each.id for each in spool.read(read).faces}
        assert found == {odd.id, good.id, new.id}


async def test_a_person_s_shell_on_the_database_ends_nothing(folder: Path) -> None:
    async with writing(folder) as (writer, answered):
        first = face(writer.next_sequence())
        writer.put(first)
        await eventually(lambda: answered.written)
        with contextlib.closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            writer.put(face(writer.next_sequence()))
            await eventually(lambda: answered.turned_away)
            assert writer.problem is not None
            shell.execute("ROLLBACK")
        await eventually(lambda: writer.problem is None, 5)
        writer.put(face(writer.next_sequence()))
        await eventually(lambda: len(answered.written) == 2)
