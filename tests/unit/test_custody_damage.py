"""The faults that damage a spool: what they say they destroy is what no reader finds any more."""

import json
import random
import sqlite3
from pathlib import Path

import pytest

from services.common.errors import Refused
from services.common.wire.faces import decode_face
from services.common.wire.message import Message
from tests.custody import damage
from tests.custody.faces import known_face

FACES = [known_face("damage", number) for number in range(40)]
SCHEMA = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
CREATE TABLE faces (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, held_since REAL NOT NULL,
    topic TEXT NOT NULL, content_type TEXT NOT NULL, attributes TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE quarantine (id TEXT PRIMARY KEY, refused_at REAL, reason TEXT, topic TEXT, content_type TEXT,
    attributes TEXT, payload BLOB);
PRAGMA user_version = 1;
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / damage.DATABASE
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()
    damage.add(path, map(damage.as_row, FACES))
    return path


def id_of(row: damage.Row) -> str:
    assert isinstance(row[0], bytes)
    return row[0].decode()


def test_what_is_planted_is_whole(spool: Path) -> None:
    damage.settle(spool)
    planted = damage.rows_of(spool).values()
    assert len(planted) == len(FACES)
    assert all(map(is_a_face, planted))


@pytest.mark.parametrize("kind", damage.HARMS)
@pytest.mark.parametrize("seed", range(6))
def test_the_account_of_damage_is_exact(spool: Path, kind: str, seed: int) -> None:
    before = settled_rows(spool)
    harmed = damage.harm(spool, set(), random.Random(seed), (kind,))
    assert harmed.kind == kind
    after = damage.rows_of(spool, before)
    assert harmed.destroyed == {id_of(row) for place, row in before.items() if after.get(place) != row}
    assert damage.rows_of(spool).keys() <= after.keys()


def test_a_row_beside_a_damaged_page_is_found(spool: Path) -> None:
    """A reader in Python that lists rows the usual way loses the last one before the damage."""
    before = settled_rows(spool)
    small = 0
    for seed in range(12):
        content = spool.read_bytes()
        harmed = damage.harm(spool, set(), random.Random(seed), ("page zeroed",))
        found = damage.rows_of(spool)
        if len(harmed.destroyed) < 5:
            small += 1
            assert {
                id_of(row) for place, row in before.items() if found.get(place) != row
            } == harmed.destroyed
        spool.write_bytes(content)
    assert small > 6


def test_of_a_file_that_was_cut_the_rest_is_still_found(spool: Path) -> None:
    before = settled_rows(spool)
    size_bytes = damage.page_bytes(spool)
    with spool.open("r+b") as file:
        file.truncate(spool.stat().st_size - 2 * size_bytes)
    after = damage.rows_of(spool, before)
    assert len(before) - 4 < sum(after.get(place) == row for place, row in before.items()) < len(before)


@pytest.mark.parametrize("seed", range(20))
def test_damage_leaves_what_it_must_spare(spool: Path, seed: int) -> None:
    spare = {face.id for face in FACES[::5]}
    places = settled_rows(spool)
    harmed = damage.harm(spool, spare, random.Random(seed))
    assert not harmed.destroyed & spare
    after = damage.rows_of(spool, places)
    kept = {place for place, row in places.items() if id_of(row) not in harmed.destroyed}
    assert {place: after.get(place) for place in kept} == {place: places[place] for place in kept}


def settled_rows(path: Path) -> dict[damage.Place, damage.Row]:
    damage.settle(path)
    return damage.rows_of(path)


def test_every_kind_of_damage_is_done_in_time(spool: Path) -> None:
    content = spool.read_bytes()
    done = set()
    for seed in range(60):
        spool.write_bytes(content)
        done.add(damage.harm(spool, set(), random.Random(seed)).kind)
    assert done == set(damage.HARMS)


@pytest.mark.parametrize("kind", damage.SPOILT)
def test_a_spoilt_row_is_no_face_any_more(spool: Path, kind: str) -> None:
    with damage.opened(spool) as connection:
        connection.execute("DELETE FROM faces WHERE sequence < 20")
    rng = random.Random(kind)
    rows = [damage.spoil(known_face("spoilt", number), kind, rng) for number in range(8)]
    assert damage.plant_in_gaps(spool, rows, rng) == 8
    planted = {face.id for face in FACES}
    spoilt = [row for row in settled_rows(spool).values() if id_of(row) not in planted]
    assert len(spoilt) == 8
    assert not any(map(is_a_face, spoilt))


def test_rows_are_added_only_where_forward_will_not(spool: Path) -> None:
    rows = [damage.as_row(known_face("gap", number)) for number in range(3)]
    assert damage.plant_in_gaps(spool, rows, random.Random(1)) == 0
    with damage.opened(spool) as connection:
        connection.execute("DELETE FROM faces WHERE sequence IN (3, 7)")
    assert damage.plant_in_gaps(spool, rows, random.Random(1)) == 2
    assert {number for table, number in settled_rows(spool) if table == "faces"} == set(range(1, 41))


def is_a_face(row: damage.Row) -> bool:
    try:
        return decode_face(_message(row)).id == id_of(row)
    except (Refused, ValueError, TypeError, AttributeError):
        return False


def _message(row: damage.Row) -> Message:
    _, topic, content_type, attributes, payload = row
    assert isinstance(payload, bytes)
    pairs = tuple((name, value) for name, value in json.loads(_text(attributes)))
    return Message(
        topic=_text(topic), payload=payload, qos=1, content_type=_text(content_type), attributes=pairs
    )


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()
