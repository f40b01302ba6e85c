"""The spool's SQLite file: its schema, its rows, its errors."""

import contextlib
import json
import sqlite3
from collections.abc import Generator, Iterator
from pathlib import Path

from services.common.errors import FaceferryError, Refused, SetupError
from services.common.faces import decode_face
from services.common.message import Message
from services.forward.spooled import SpooledFace

SCHEMA_VERSION = 1
_SCHEMA = """
BEGIN;
CREATE TABLE faces (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    held_since REAL NOT NULL,
    topic TEXT NOT NULL,
    content_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE quarantine (
    id TEXT PRIMARY KEY,
    refused_at REAL NOT NULL,
    reason TEXT NOT NULL,
    topic TEXT NOT NULL,
    content_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    payload BLOB NOT NULL
);
PRAGMA user_version = 1;
COMMIT;
"""
_COLUMNS = "sequence, id, topic, content_type, attributes, payload"
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SpoolFull(FaceferryError):
    """The disk has no room."""


class SpoolDamaged(FaceferryError):
    """The database cannot be read."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Name SQLite's errors for their cause; an unexpected one stays as it is and ends the process."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _FULL:
            raise SpoolFull(str(error)) from error
        if code & 0xFF in _DAMAGED:
            raise SpoolDamaged(str(error)) from error
        raise


def connect(path: Path) -> sqlite3.Connection:
    """Open a spool's database, made if it is missing; may be used from one thread at a time.

    Raises:
        SetupError: it was made by a newer version.
        SpoolDamaged: it is no database.
        SpoolFull: there is no room to make one.
    """
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        with translated():
            _configure(connection)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    if version > SCHEMA_VERSION:
        connection.close()
        raise SetupError(f"{path} was made by a newer version of Faceferry (schema {version})")
    return connection


def connect_to_read(path: Path, timeout_s: float = 5.0) -> sqlite3.Connection:
    """Open a spool's database for a look that disturbs nobody; the errors are SQLite's own."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=timeout_s)


def insert(connection: sqlite3.Connection, faces: list[SpooledFace], now_s: float) -> int:
    """Add faces, except those that are there; return how many that were. The caller commits."""
    rows = [
        (
            face.sequence,
            face.id,
            now_s,
            face.message.topic,
            face.message.content_type or "",
            json.dumps(face.message.attributes, separators=(",", ":")),
            face.message.payload,
        )
        for face in faces
    ]
    return connection.executemany("INSERT OR IGNORE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?)", rows).rowcount


def quarantine(connection: sqlite3.Connection, refused: dict[str, str], now_s: float) -> int:
    """Move faces aside, by id with the reason; return how many were there. The caller commits."""
    rows = [(now_s, reason, face_id) for face_id, reason in refused.items()]
    moved = connection.executemany(
        "INSERT OR REPLACE INTO quarantine"
        " SELECT id, ?, ?, topic, content_type, attributes, payload FROM faces WHERE id = ?",
        rows,
    ).rowcount
    delete(connection, list(refused))
    return moved


def delete(connection: sqlite3.Connection, face_ids: list[str]) -> int:
    """Let faces go; return how many were there. The caller commits."""
    return connection.executemany(
        "DELETE FROM faces WHERE id = ?", [(face_id,) for face_id in face_ids]
    ).rowcount


def size_and_age(connection: sqlite3.Connection) -> tuple[int, float | None]:
    """Return the bytes that the database uses, and since when the oldest face is held, if there is one."""
    # In one statement: each gives up the interpreter's lock and has to get it back.
    (size, held_since) = connection.execute(
        "SELECT (page_count - freelist_count) * page_size,"
        " (SELECT held_since FROM faces ORDER BY sequence LIMIT 1)"
        " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    ).fetchone()
    return int(size), held_since


def select(connection: sqlite3.Connection, after: int, until: int) -> Generator[SpooledFace, None, None]:
    """Yield faces in order of arrival, from behind `after` up to and with `until`."""
    cursor = connection.execute(
        f"SELECT {_COLUMNS} FROM faces"  # noqa: S608 - constants
        " WHERE sequence > ? AND sequence <= ? ORDER BY sequence",
        (after, until),
    )
    with contextlib.closing(cursor):
        yield from map(_from_row, cursor)


def rescue(connection: sqlite3.Connection) -> Iterator[SpooledFace]:
    """Yield what can still be read of a damaged database, from both ends towards the damage.

    A face's id proves its content, so nothing is taken for a face that is none.
    """
    found: set[str] = set()
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in connection.execute(f"SELECT {_COLUMNS} FROM faces ORDER BY sequence {order}"):  # noqa: S608 - constants
                face = _from_damaged_row(row)
                if face is None:
                    continue
                if face.id in found:
                    break
                found.add(face.id)
                yield face


def _configure(connection: sqlite3.Connection) -> None:
    # The first two only take effect on a new file. A face of 20 kB lies in 3 pages of 8 KiB.
    for pragma in (
        "page_size = 8192",
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 512",
        "journal_size_limit = 4194304",
        "cache_size = -8192",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _from_row(row: tuple[int, str, str, str, str, bytes]) -> SpooledFace:
    sequence, face_id, topic, content_type, attributes, payload = row
    pairs = tuple((str(name), str(value)) for name, value in json.loads(attributes))
    message = Message(topic=topic, payload=payload, qos=1, content_type=content_type, attributes=pairs)
    return SpooledFace(sequence, face_id, message)


def _from_damaged_row(row: tuple[int, str, str, str, str, bytes]) -> SpooledFace | None:
    """Return a row's face, if that is what it holds: damage puts anything into any column."""
    types = (int, str, str, str, str, bytes)
    if not all(isinstance(value, kind) for value, kind in zip(row, types, strict=True)):
        return None
    try:
        face = _from_row(row)
        return face if decode_face(face.message).id == face.id else None
    except (Refused, ValueError, TypeError):
        return None
