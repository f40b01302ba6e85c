"""The spool's SQLite file: its tables, how it is opened, its errors."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from services.common.errors import FaceferryError, SetupError
from services.common.wire.topics import ROOT
from services.forward.spool.face import later_in_row

SCHEMA_VERSION = 2
TABLES = ("faces", "quarantine", "set_aside")
"""Those that hold faces; those of the first one wait."""
BUSY_S = 0.5
"""How long to wait for another process that locks the database, at a time: the writer has more to do."""
COLUMNS = "id, topic, content_type, attributes, payload"
"""The columns of a face, the same in each table."""

INDEX_OF_FIRSTS = "faces_first"
IS_FIRST = f"instr(attributes, '{later_in_row()}') = 0"
"""The condition of the index of first pictures; a query has to have the same text to use it."""

SUFFIXES = ("", "-wal", "-shm")
"""Of the files that a database consists of."""

# In quarantine and set_aside anything may stand in a column: a damaged row is kept as it is.
_TABLES = """
BEGIN;
CREATE TABLE IF NOT EXISTS faces (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    held_since REAL NOT NULL,
    topic TEXT NOT NULL,
    content_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
    id TEXT PRIMARY KEY,
    refused_at REAL NOT NULL,
    reason TEXT NOT NULL,
    topic TEXT NOT NULL,
    content_type TEXT NOT NULL,
    attributes TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS set_aside (
    number INTEGER PRIMARY KEY,
    id TEXT,
    since REAL NOT NULL,
    reason TEXT NOT NULL,
    topic TEXT,
    content_type TEXT,
    attributes TEXT,
    payload BLOB
);
CREATE INDEX IF NOT EXISTS set_aside_reason ON set_aside (reason, id);
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY,
    reason TEXT,
    id TEXT,
    device TEXT
);
PRAGMA user_version = 2;
COMMIT;
"""
_MAKE_INDEX_OF_FIRSTS = f"CREATE INDEX {INDEX_OF_FIRSTS} ON faces (sequence) WHERE {IS_FIRST}"
_MAGIC = b"SQLite format 3\0"
_LOG_HEADER_BYTES = 32
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG})
_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,  # an operator's shell, a back-up: it ends
    }
)


class SpoolFull(FaceferryError):
    """The disk has no room."""


class SpoolDamaged(FaceferryError):
    """The database cannot be read."""


class SpoolUnwritable(FaceferryError):
    """The disk does not take writes: it is read-only, or fails."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise errors of SQLite and the disk by their cause; an unexpected one passes, and ends the process.

    Raises:
        SpoolFull, SpoolDamaged, SpoolUnwritable: see there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SpoolFull(str(error)) from error
        raise SpoolUnwritable(str(error)) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in _FULL:
            raise SpoolFull(str(error)) from error
        if code & 0xFF in _DAMAGED or "malformed database schema" in str(error):
            raise SpoolDamaged(str(error)) from error
        if code & 0xFF in _UNWRITABLE:
            raise SpoolUnwritable(str(error)) from error
        raise


def connect(path: Path, *, is_exclusive: bool = False) -> sqlite3.Connection:
    """Open a spool's database, made if it is missing; may be used from one thread at a time.

    Args:
        path: where it is.
        is_exclusive: keep the index of its log in memory, which locks all other processes out, for a disk
            without room for that index.

    Raises:
        SetupError: a newer version made it.
        SpoolDamaged: it is no database, or not a spool's.
        SpoolFull: there is no room to make one.
        SpoolUnwritable: the disk does not let it be opened.
    """
    _see_magic(path)
    with translated():
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # faces are for this user alone
        connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_S)
    try:
        with translated():
            if is_exclusive:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            _configure(connection)
            _bring_up_to_date(connection, path)
            _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def files(path: Path) -> list[Path]:
    """Return the paths of a database's files, whether they exist or not."""
    return [path.with_name(path.name + suffix) for suffix in SUFFIXES]


def taken_bytes(path: Path) -> int:
    """Return how many bytes a database's files take on the disk."""
    return sum(file.stat().st_size for file in files(path) if file.exists())


def connect_to_read(path: Path, timeout_s: float = 5.0) -> sqlite3.Connection:
    """Open a spool's database read-only, beside the forward that uses it.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout_s)


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open a spool's database beside the forward that uses it, to add a request.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)


def keep_index_of_others(connection: sqlite3.Connection, device: str) -> None:
    """Keep an index of the rows that are not on this device's topics.

    It is nearly always empty, and so costs nothing, but saves reading every face at each start. It is made
    anew when the device gets another name.
    """
    name = f"faces_not_of_{device}"
    made = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'faces\\_not\\_of\\_%' ESCAPE '\\'"
    ).fetchall()
    if made == [(name,)]:
        return
    with connection:
        for (old,) in made:
            connection.execute(f'DROP INDEX "{old}"')
        connection.execute(f'CREATE INDEX "{name}" ON faces (sequence) WHERE {not_of(device)}')


def keep_index_of_firsts(connection: sqlite3.Connection) -> None:
    """Keep an index of the rows that may be a person's first picture, which are sent before all others.

    Without it each later picture between them would have to be read; once the first ones are gone, every row.
    """
    if has_index_of_firsts(connection):
        return
    with connection:
        connection.execute(f"DROP INDEX IF EXISTS {INDEX_OF_FIRSTS}")
        connection.execute(_MAKE_INDEX_OF_FIRSTS)


def has_index_of_firsts(connection: sqlite3.Connection) -> bool:
    """Say whether that index exists, and is not another one of its name."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND sql = ?"
    return connection.execute(query, (_MAKE_INDEX_OF_FIRSTS,)).fetchone() is not None


def not_of(device: str) -> str:
    """Return the SQL condition of rows of other devices; a device's name needs no quoting."""
    return f"topic NOT GLOB '{ROOT}/{device}/*'"


@contextlib.contextmanager
def unsynced(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit without waiting for the disk, for what may be done again after a power cut.

    The order on the disk stays: a later commit that is waited for has this one before it.
    """
    connection.execute("PRAGMA synchronous = NORMAL").fetchall()
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL").fetchall()


@contextlib.contextmanager
def overwriting(connection: sqlite3.Connection) -> Iterator[None]:
    """Have SQLite overwrite what it deletes (`PRAGMA secure_delete`); some builds do so anyway."""
    (usual,) = connection.execute("PRAGMA secure_delete").fetchone()
    connection.execute("PRAGMA secure_delete = ON").fetchall()
    try:
        yield
    finally:
        connection.execute(f"PRAGMA secure_delete = {usual}").fetchall()


def size_and_oldest(connection: sqlite3.Connection) -> tuple[int, int | None, float | None]:
    """Return how many bytes the database uses, and the oldest face's place and since when it is held.

    Place and time are None if there is no face. The time is Unix time by the wall clock of then, and None if
    damage has put something else there.
    """
    # In one statement, because each one releases the interpreter's lock and has to get it back.
    (size, sequence, held_since) = connection.execute(
        "SELECT (page_count - freelist_count) * page_size, sequence,"
        " CASE typeof(held_since) WHEN 'real' THEN held_since END"
        " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        " LEFT JOIN (SELECT sequence, held_since FROM faces ORDER BY sequence LIMIT 1)"
    ).fetchone()
    return int(size), sequence, held_since


# A face of 20 kB lies in 3 pages of 8 KiB.
_WHEN_NEW = ("page_size = 8192", "auto_vacuum = INCREMENTAL")
_ALWAYS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 512",
    "journal_size_limit = 4194304",
    "cache_size = -8192",
    # An index that is made of a large spool is sorted there: a container may have little room for files.
    "temp_store = MEMORY",
)


def _configure(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    # Setting these anew would write, which fails on a full disk.
    for pragma in _ALWAYS if pages else (*_WHEN_NEW, *_ALWAYS):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise SetupError(f"{path} was made by a newer version of Faceferry (schema {version})")
    if version < SCHEMA_VERSION:
        connection.executescript(_TABLES)


def _see_magic(path: Path) -> None:
    """Check that a file is a database before SQLite opens it, which deletes the log if it is none."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        start = b""
    except OSError as error:
        raise SpoolUnwritable(str(error)) from error
    if start not in (_MAGIC, b""):
        raise SpoolDamaged("file is not a database")
    log = path.with_name(f"{path.name}-wal")
    if not start and path.exists() and not log.exists():
        raise SpoolDamaged("the database is empty, not even begun")
    if not start and log.exists() and log.stat().st_size > _LOG_HEADER_BYTES:
        raise SpoolDamaged("the database is gone, and its log is not")


def _check_tables(connection: sqlite3.Connection) -> None:
    """Check that the tables have our columns: SQLite may accept a damaged schema."""
    try:
        for table, own in (
            ("faces", "sequence, held_since"),
            ("quarantine", "refused_at, reason"),
            ("set_aside", "number, since, reason"),
        ):
            connection.execute(f"SELECT {own}, {COLUMNS} FROM {table} LIMIT 0")  # noqa: S608 - constants
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        raise SpoolDamaged(str(error)) from error
