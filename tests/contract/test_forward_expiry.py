"""What is too old leaves the spool, wherever it lies there; nothing younger does."""

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from services.common.wire.faces import encode_face, mint
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from services.forward.spool.commands import Changes, Expire
from services.forward.spool.disk import DATABASE, Spool
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import prepare
from services.forward.spool.rows import OTHER_DEVICE, UNANSWERED
from tests.forward_rig import DEVICE, EVERYTHING, RESERVE_BYTES, writing
from tests.support import eventually

NOW_S = time.time()
NOW = from_unix_s(NOW_S)
DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path / "spool")
    return tmp_path / "spool"


def taken(sequence: int, at: datetime, **extensions: str) -> SpooledFace:
    made = mint(Source(DEVICE, "cam"), at, os.urandom(200), "image/jpeg", extensions)
    return SpooledFace(sequence, made.id, encode_face(made))


def everything(spool: Spool, limit: datetime) -> list[str]:
    """Let go of all that is too old; return the ids of those that waited."""
    gone: list[str] = []
    while some := spool.expire(limit):
        gone += some.ids
    return gone


def held(folder: Path, table: str) -> set[str]:
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return {face_id for (face_id,) in database.execute(f"SELECT id FROM {table}")}  # noqa: S608


def test_what_is_older_goes_from_each_table_and_what_is_younger_stays(folder: Path) -> None:
    limit = NOW - 30 * DAY
    old = [taken(number, limit - timedelta(seconds=number)) for number in range(1, 301)]
    young = [taken(1_000 + number, limit + timedelta(seconds=number)) for number in range(300)]
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes([face for pair in zip(old, young, strict=True) for face in pair]))
        spool.write(Changes(refused={face.id: "bad_image" for face in old[:100] + young[:100]}))
        spool.whole.set_aside({face.id: UNANSWERED for face in old[100:150] + young[100:150]}, {})
        spool.whole.set_aside({face.id: OTHER_DEVICE for face in old[150:200] + young[150:200]}, {})
        gone = everything(spool, limit)
        assert sorted(gone) == sorted(face.id for face in old[200:])
        state = spool.state()
        assert (state.faces, state.quarantined, state.set_aside) == (
            100,
            100,
            {UNANSWERED: 50, OTHER_DEVICE: 50},
        )
        assert not spool.expire(limit)
    assert held(folder, "faces") == {face.id for face in young[200:]}
    assert held(folder, "quarantine") == {face.id for face in young[:100]}
    assert held(folder, "set_aside") == {face.id for face in young[100:200]}


def test_a_face_of_a_wrong_clock_stays_for_its_days_from_when_it_came(folder: Path) -> None:
    unknown = {"clock": "unsynchronised"}
    faces = [taken(1, from_unix_s(1_000)), taken(2, NOW - 60 * DAY, **unknown), taken(3, NOW + 900 * DAY)]
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.write(Changes(faces))
        assert everything(spool, NOW - 30 * DAY) == []
        assert sorted(everything(spool, NOW + DAY)) == sorted(face.id for face in faces)


def test_a_row_of_a_time_before_the_clock_was_set_counts_from_when_it_is_met(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([taken(1, from_unix_s(1_000), clock="unsynchronised")]))
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("UPDATE faces SET held_since = 1000.0")
    assert everything(spool, NOW - 30 * DAY) == []
    assert everything(spool, from_unix_s(time.time() + 1)) != []
    spool.close()


def test_a_damaged_row_goes_by_when_it_came(folder: Path) -> None:
    spool = Spool(folder, RESERVE_BYTES, DEVICE)
    spool.write(Changes([taken(1, NOW)]))
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("UPDATE faces SET id = x'ff00', attributes = x'ff'")
    spool.expire(NOW - 30 * DAY)
    assert spool.state().faces == 1
    spool.expire(from_unix_s(time.time() + 1))
    assert spool.state().faces == 0
    spool.close()


def test_a_damaged_database_that_was_kept_for_a_look_goes_too(folder: Path) -> None:
    for name, age_s in (("damaged-old-spool.db", 31 * 86_400.0), ("damaged-new-spool.db", 86_400.0)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (NOW_S - age_s, NOW_S - age_s))
    with closing(Spool(folder, RESERVE_BYTES, DEVICE)) as spool:
        spool.expire(NOW - 30 * DAY)
    assert sorted(path.name for path in folder.glob("damaged-*")) == ["damaged-new-spool.db"]


async def test_the_writer_lets_go_of_all_of_them_and_tells_whoever_may_be_sending_them(folder: Path) -> None:
    limit = NOW - 30 * DAY
    old = [taken(number, limit - timedelta(seconds=number)) for number in range(1, 200)]
    async with writing(folder) as (writer, answered):
        for face in (*old, young := taken(999, NOW)):
            writer.put(face)
        writer.put(Expire(limit))
        await eventually(lambda: len(answered.expired) == len(old))
        writer.put(EVERYTHING)
        await eventually(lambda: answered.parts)
        assert [face.id for face in answered.parts[0].faces] == [young.id]
        assert sorted(answered.expired) == sorted(face.id for face in old)
        await asyncio.sleep(0)
        assert writer.state.faces == 1
