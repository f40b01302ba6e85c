"""What a real spool takes for somebody's first picture, and that nothing is forgotten if it errs."""

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.wire.seen import Why
from services.forward.spool import database, rows
from services.forward.spool.commands import BacklogPart, Changes, PutBackRequest
from services.forward.spool.database import INDEX_OF_FIRSTS, SpoolDamaged
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from services.forward.spool.replacement import damaged_files
from tests.forward_rig import (
    ALL_FIRSTS,
    DEVICE,
    EVERYTHING,
    PAGE,
    RESERVE_BYTES,
    face,
    small_disk,
    take_all_room,
    writing,
)
from tests.support import eventually

ENTRIES = f"SELECT count(*) FROM faces INDEXED BY {INDEX_OF_FIRSTS} WHERE {database.IS_FIRST}"  # noqa: S608


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


def visits(count: int, size_bytes: int = 20_000) -> list[SpooledFace]:
    """So many pictures; every third is the first of a visit."""
    reasons = itertools.cycle([Why.FIRST, Why.BETTER, Why.BETTER])
    return [
        face(number, size_bytes, visit=f"v-{number // 3}", why=next(reasons))
        for number in range(1, count + 1)
    ]


def firsts(faces: list[SpooledFace]) -> list[SpooledFace]:
    return [each for each in faces if not each.is_later]


def opened(folder: Path) -> Spool:
    return Spool(folder, RESERVE_BYTES, DEVICE)


def fill(folder: Path, faces: list[SpooledFace]) -> None:
    with contextlib.closing(opened(folder)) as spool:
        for start in range(0, len(faces), 100):
            spool.write(Changes(faces[start : start + 100]))


@contextlib.contextmanager
def shell(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        yield connection


def test_first_pictures_can_be_read_alone_in_parts_and_all_of_them_after(folder: Path) -> None:
    faces = visits(30)
    fill(folder, faces)
    with contextlib.closing(opened(folder)) as spool:
        read, found = replace(ALL_FIRSTS, most_bytes=50_000), []
        while (part := spool.read(read)).until < read.until:
            assert len(part.faces) == 3
            found += part.faces
            read = replace(read, after=part.until)
        assert [*found, *part.faces] == firsts(faces)
        assert spool.read(EVERYTHING).faces == faces
        spool.write(Changes(deletes=[each.id for each in firsts(faces)]))
        assert spool.read(ALL_FIRSTS) == BacklogPart([], ALL_FIRSTS.until)


@pytest.mark.parametrize("why", Why)
def test_only_a_better_picture_is_a_later_one(folder: Path, why: Why) -> None:
    one = face(1, visit="v", shot="3", why=why)
    fill(folder, [one])
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(ALL_FIRSTS).faces == ([] if why is Why.BETTER else [one])


def test_whatever_else_an_attribute_says_it_is_a_first_one(folder: Path) -> None:
    odd = [face(1), face(2, other='["why","better"]'), face(3, why="betterment"), face(4, reason="better")]
    fill(folder, odd)
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(ALL_FIRSTS).faces == odd
    assert not any(each.is_later for each in odd)


def test_where_the_first_ones_are_gone_nobody_walks_through_the_others(folder: Path) -> None:
    faces = visits(3_000, 500)
    fill(folder, faces)
    with contextlib.closing(opened(folder)) as spool:
        spool.write(Changes(deletes=[each.id for each in firsts(faces)]))
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with contextlib.closing(database.connect(folder / DATABASE)) as connection:
        connection.set_progress_handler(count, 1)
        assert not list(rows.select(connection, DEVICE, ALL_FIRSTS))
        assert steps < 100
        assert len(list(rows.select(connection, DEVICE, EVERYTHING))) == 2_000
        assert steps > 2_000


@pytest.mark.parametrize("other", ["", f"CREATE INDEX {INDEX_OF_FIRSTS} ON faces (topic)"])
def test_a_spool_of_the_version_before_goes_on_and_that_one_with_ours(folder: Path, other: str) -> None:
    faces = visits(30)
    fill(folder, faces[:15])
    with shell(folder) as connection:
        connection.execute(f"DROP INDEX {INDEX_OF_FIRSTS}")
        connection.execute(other)
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(ALL_FIRSTS).faces == firsts(faces[:15])
    with shell(folder) as connection:  # as the version before does it, which knows nothing of the index
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert rows.insert(connection, faces[15:], 0.0) == 15
        rows.delete(connection, [faces[0].id])
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(ALL_FIRSTS).faces == firsts(faces[1:])
        assert not damaged_files(folder)


def test_on_a_disk_without_room_for_the_index_they_go_as_they_came(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 32) as folder:
        faces = visits(90)
        fill(folder, faces)
        with shell(folder) as connection:
            connection.execute(f"DROP INDEX {INDEX_OF_FIRSTS}")
        (folder / "reserve").unlink()
        filler = take_all_room(folder)
        with contextlib.closing(opened(folder)) as spool:
            assert spool.read(ALL_FIRSTS) == BacklogPart([], ALL_FIRSTS.until)
            assert spool.read(EVERYTHING).faces == faces
        filler.unlink()
        with contextlib.closing(opened(folder)) as spool:
            assert spool.read(ALL_FIRSTS).faces == firsts(faces)


def test_what_is_put_back_is_what_it_was(folder: Path) -> None:
    faces = visits(6)
    strangers = [face(number, device="wrong", why=why) for number, why in ((7, "first"), (8, "better"))]
    fill(folder, [*faces, *strangers])
    with contextlib.closing(opened(folder)) as spool:
        spool.whole.set_aside(
            {each.id: "not_authorized" for each in faces}, {7: "other_device", 8: "other_device"}
        )
        assert spool.read(ALL_FIRSTS) == BacklogPart([], ALL_FIRSTS.until)
        spool.put_back(spool.whole.find_apart(PutBackRequest(device=DEVICE)), DEVICE)
        assert len(spool.read(ALL_FIRSTS).faces) == 3
        assert [each.is_later for each in spool.read(EVERYTHING).faces] == [False, True, True] * 2 + [
            False,
            True,
        ]


async def test_a_damaged_index_costs_no_face(folder: Path) -> None:
    faces = visits(300, 500)
    fill(folder, faces)
    with shell(folder) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (root,) = connection.execute(query, (INDEX_OF_FIRSTS,)).fetchone()
    with (folder / DATABASE).open("r+b") as file:
        file.seek((root - 1) * PAGE)
        file.write(b"\xa5" * PAGE)
    async with writing(folder) as (writer, answered):
        writer.put(ALL_FIRSTS)
        writer.put(EVERYTHING)
        await eventually(lambda: len(answered.parts) == 2)
    assert [part.faces for part in answered.parts] == [firsts(faces), faces]
    assert len(damaged_files(folder)) == 1


def test_what_an_index_lacks_is_read_with_all_and_can_be_let_go(folder: Path) -> None:
    """Damage that SQLite does not see: half of the entries are gone."""
    faces = visits(30)
    fill(folder, faces)
    condition = database.IS_FIRST
    with shell(folder) as connection:
        connection.execute(f"DROP INDEX {INDEX_OF_FIRSTS}")
        connection.execute(
            f"CREATE INDEX {INDEX_OF_FIRSTS} ON faces (sequence) WHERE {condition} AND sequence % 2"
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' AND sequence % 2', '')")
    with shell(folder) as connection:
        assert connection.execute(ENTRIES).fetchone() == (5,)
    with contextlib.closing(opened(folder)) as spool:
        assert spool.read(ALL_FIRSTS).faces == [each for each in firsts(faces) if each.sequence % 2]
        assert spool.read(EVERYTHING).faces == faces
        let_go(spool, faces)
        assert spool.state().faces == 0


def test_an_index_out_of_order_is_damage_and_not_read_for_ever(folder: Path) -> None:
    faces = visits(30)
    fill(folder, faces)
    with shell(folder) as connection:
        connection.execute(f"DROP INDEX {INDEX_OF_FIRSTS}")
        connection.execute(
            f"CREATE INDEX {INDEX_OF_FIRSTS} ON faces (sequence DESC) WHERE {database.IS_FIRST}"
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' DESC', '')")
    with contextlib.closing(opened(folder)) as spool:
        with pytest.raises(SpoolDamaged, match="out of order"):
            spool.read(replace(ALL_FIRSTS, after=-(1 << 63)))
        spool.replace("by the test")
        assert spool.read(ALL_FIRSTS).faces == firsts(faces)


def let_go(spool: Spool, faces: list[SpooledFace]) -> None:
    """Delete faces, over whatever damage is met on the way."""
    changes = Changes(deletes=[each.id for each in faces])
    try:
        spool.write(changes)
    except SpoolDamaged as error:
        spool.replace(str(error))
        spool.write(changes)
