"""Damage to a spool's files, and an exact account of what it destroyed.

A face whose only copy a fault has destroyed is lost by the fault. So what is done to a file here is done
to a copy first, and what SQLite cannot find there any more, row by row by its number, is what the fault
destroys. Everything else can be read, and is demanded.
"""

import contextlib
import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from services.common.wire.faces import Face, encode_face

DATABASE = "spool.db"
TABLES = ("faces", "quarantine", "set_aside")
"""All that hold faces; older schemas have fewer."""
VERSION_AT = 60
HEADER_BYTES = 100
_PAGE_SIZE_AT = 16
_TRIES = 30

Row = tuple[object, ...]
Place = tuple[str, int]
Harm = Callable[[Path, random.Random], None]
"""Does something to a database's file, while nobody has it open."""


@dataclass(slots=True)
class Toll:
    """What faults have put into the spool's files, and taken from them.

    Attributes:
        planted: whole faces that they have added, by id: they belong into the bucket like all others.
        destroyed: ids of faces that no reader can find any more.
        spoilt: ids of rows that they have added in a state in which they cannot be sent.
        harms: how often each kind of damage was done.
    """

    planted: dict[str, Face] = field(default_factory=dict)
    destroyed: set[str] = field(default_factory=set)
    spoilt: set[str] = field(default_factory=set)
    harms: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def opened(path: Path, *, is_alone: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a database whose texts may be anything; what is done in it is committed at the end.

    Args:
        path: its file.
        is_alone: nobody else has it open, and nobody may change it.
    """
    name = f"{path.absolute().as_uri()}?{'immutable=1&mode=ro' if is_alone else 'mode=rw'}"
    with contextlib.closing(sqlite3.connect(name, uri=True, timeout=10)) as connection, connection:
        connection.text_factory = bytes
        yield connection


def settle(path: Path) -> None:
    """Bring a database's log into its one file, which nobody has open."""
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def rows_of(path: Path, places: Iterable[Place] | None = None) -> dict[Place, Row]:
    """Return every row that can be found, each by its number, in a file that nobody has open.

    A file that was cut SQLite opens only where it may take the schema for damaged (`writable_schema`).

    Args:
        path: the file.
        places: where to look; all places that can be listed by default.
    """
    wanted = None if places is None else list(places)
    found: dict[Place, Row] = {}
    for is_tolerant in ("OFF", "ON"):
        with opened(path, is_alone=True) as connection, contextlib.suppress(sqlite3.DatabaseError):
            connection.execute(f"PRAGMA writable_schema = {is_tolerant}")
            found |= _look(connection, _places(connection) if wanted is None else wanted)
    return found


def _look(connection: sqlite3.Connection, places: Iterable[Place]) -> dict[Place, Row]:
    found: dict[Place, Row] = {}
    for table, number in places:
        with contextlib.suppress(sqlite3.DatabaseError):
            query = f"SELECT id, topic, content_type, attributes, payload FROM {table} WHERE rowid = ?"  # noqa: S608 - constants
            if (row := connection.execute(query, (number,)).fetchone()) is not None:
                found[table, number] = row
    return found


def _places(connection: sqlite3.Connection) -> Iterator[Place]:
    """Yield the places of all rows, from both ends of each table towards what is damaged."""
    for table in TABLES:
        for towards, order, start in ((">", "ASC", -(2**63)), ("<", "DESC", 2**63 - 1)):
            query = f"SELECT rowid FROM {table} WHERE rowid {towards} ? ORDER BY rowid {order} LIMIT 1"  # noqa: S608 - constants
            number = start
            # One at a time: Python has asked for the next row before it hands out one, and where the next
            # cannot be read this one is gone, too.
            with contextlib.suppress(sqlite3.DatabaseError):
                while (found := connection.execute(query, (number,)).fetchone()) is not None:
                    (number,) = found
                    yield table, number


def add(path: Path, rows: Iterable[Row]) -> None:
    """Add rows behind all that are there; nobody has the database open."""
    with opened(path) as connection:
        (last,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM faces").fetchone()
        for sequence, row in enumerate(rows, last + 1):
            _insert(connection, sequence, row)


def plant_in_gaps(path: Path, rows: list[Row], rng: random.Random) -> int:
    """Add rows under numbers that are free and older than the newest, which forward cannot want.

    forward may be at work on it. Returns how many found a gap.
    """
    with opened(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        taken = {number for (number,) in connection.execute("SELECT sequence FROM faces")}
        free = sorted(set(range(1, max(taken, default=0))) - taken)[-1_000:]
        numbers = rng.sample(free, min(len(free), len(rows)))
        for number, row in zip(numbers, rows, strict=False):
            _insert(connection, number, row)
    return len(numbers)


def as_row(face: Face) -> Row:
    """Return a face as the spool keeps it: id, topic, content type, attributes, payload."""
    message = encode_face(face)
    attributes = json.dumps(message.attributes, separators=(",", ":"))
    return face.id, message.topic, face.content_type, attributes, face.image


def _insert(connection: sqlite3.Connection, sequence: int, row: Row) -> None:
    face_id, *rest = row
    connection.execute(
        "INSERT INTO faces (sequence, id, held_since, topic, content_type, attributes, payload)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (sequence, face_id, time.time(), *rest),
    )
    for column, value in zip(("id", "topic", "content_type", "attributes"), row, strict=False):
        if isinstance(value, bytes):
            # Python writes no text that is not UTF-8; SQLite does not look.
            connection.execute(
                f"UPDATE faces SET {column} = CAST(? AS TEXT) WHERE sequence = ?",  # noqa: S608 - constants
                (value, sequence),
            )


def spoil(face: Face, kind: str, rng: random.Random) -> Row:
    """Return a face's row with damage after which there is no such face any more."""
    face_id, topic, content_type, attributes, payload = as_row(face)
    assert isinstance(attributes, str)
    assert isinstance(payload, bytes)
    match kind:
        case "one byte of the JSON":
            at = rng.choice([at for at, letter in enumerate(attributes) if letter in '[]",'])
            return face_id, topic, content_type, attributes[:at] + "\x01" + attributes[at + 1 :], payload
        case "no UTF-8 in the attributes":
            at = rng.randrange(len(attributes))
            broken = attributes.encode()[:at] + b"\xff" + attributes.encode()[at + 1 :]
            return face_id, topic, content_type, broken, payload
        case "JSON of another shape":
            return (
                face_id,
                topic,
                content_type,
                rng.choice(['{"id":1}', "[1,2]", "null", "[[]]", ""]),
                payload,
            )
        case "no topic":
            topic = rng.choice(["", "faceferry/#", "faceferry/+/+/face", "a\0b", "x" * 70_000, b"\xc3\x28"])
            return face_id, topic, content_type, attributes, payload
        case "another type in a column":
            return face_id, topic, content_type, attributes, "text"
        case "a byte of the image":
            at = rng.randrange(len(payload))
            other = bytes([payload[at] ^ 1])
            return face_id, topic, content_type, attributes, payload[:at] + other + payload[at + 1 :]
    raise ValueError(kind)


SPOILT = (
    "one byte of the JSON",
    "no UTF-8 in the attributes",
    "JSON of another shape",
    "no topic",
    "another type in a column",
    "a byte of the image",
)


def forget_version(path: Path, _rng: random.Random) -> None:
    """Set the schema's version to 0, as that of a file nobody has made."""
    _overwrite(path, VERSION_AT, bytes(4))


def zero_header(path: Path, _rng: random.Random) -> None:
    """Make it no database at all."""
    _overwrite(path, 0, bytes(HEADER_BYTES))


def zero_page(path: Path, rng: random.Random) -> None:
    """Zero one page, of a kind drawn before the page is: most are the overflow of large faces."""
    size_bytes = page_bytes(path)
    content = path.read_bytes()
    by_kind: dict[int, list[int]] = {}
    for number in range(1, len(content) // size_bytes):
        first = content[number * size_bytes]
        by_kind.setdefault(first if first in _TREE_PAGES else 0, []).append(number)
    if by_kind:
        number = rng.choice(by_kind[rng.choice(sorted(by_kind))])
        _overwrite(path, number * size_bytes, bytes(size_bytes))


def cut(path: Path, rng: random.Random) -> None:
    """Cut a few pages off its end, or a part of one, as a file system that lost its last writes does."""
    size_bytes = page_bytes(path)
    off_bytes = rng.choice([1, 512, size_bytes, 2 * size_bytes, 5 * size_bytes])
    with path.open("r+b") as file:
        file.truncate(max(size_bytes, path.stat().st_size - off_bytes))


_TREE_PAGES = frozenset({0x02, 0x05, 0x0A, 0x0D})
"""First bytes of the pages of indexes and tables, inner ones and leaves (SQLite's file format, 1.6)."""

HARMS: dict[str, Harm] = {
    "version 0": forget_version,
    "header zeroed": zero_header,
    "page zeroed": zero_page,
    "file cut": cut,
}


def harm(path: Path, spare: set[str], rng: random.Random, kinds: tuple[str, ...] = tuple(HARMS)) -> "Harmed":
    """Damage a database that nobody has open, so that it destroys none of some rows.

    Damage is drawn until it leaves them; the last resort takes no row at all.

    Args:
        path: its file.
        spare: ids that must be found as they were.
        rng: draws.
        kinds: of `HARMS`.
    """
    settle(path)
    before = rows_of(path)
    for _ in range(_TRIES):
        kind, state = rng.choice(kinds), rng.getstate()
        gone = _would_destroy(path, before, HARMS[kind], rng)
        if not gone & spare:
            rng.setstate(state)
            HARMS[kind](path, rng)
            return Harmed(kind, gone)
    forget_version(path, rng)
    return Harmed("version 0", set())


@dataclass(frozen=True, slots=True)
class Harmed:
    """What was done to a file, and the ids of the faces that it destroyed."""

    kind: str
    destroyed: set[str]


def _would_destroy(path: Path, before: dict[Place, Row], do: Harm, rng: random.Random) -> set[str]:
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        copy = Path(shutil.copy(path, folder))
        do(copy, rng)
        try:
            after = rows_of(copy, before)
        except sqlite3.DatabaseError:
            after = {}
    return {
        row[0].decode(errors="replace") if isinstance(row[0], bytes) else str(row[0])
        for place, row in before.items()
        if after.get(place) != row
    }


def page_bytes(path: Path) -> int:
    """Return the size of a database's pages, from its header; 1 stands for 65,536."""
    with path.open("rb") as file:
        file.seek(_PAGE_SIZE_AT)
        size_bytes = int.from_bytes(file.read(2))
    return 65_536 if size_bytes == 1 else max(512, size_bytes)


def _overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)
