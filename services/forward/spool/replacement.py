"""A new database in the place of a damaged one, with what can still be read of it.

The copy is first completed under a name of its own. Once it is renamed to `COMPLETE`, it is the spool. After
a crash before that the damaged database is where it was; after a later crash the next start finishes it.
Nothing else is renamed before that name is on the disk.
"""

import contextlib
import dataclasses
import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from services.common.runtime.files import sync_folder
from services.forward.spool import database
from services.forward.spool.database import SUFFIXES, SpoolFull, SpoolUnwritable, translated
from services.forward.spool.face import SpooledFace, from_row
from services.forward.spool.folder import free_bytes
from services.forward.spool.rescue import FoundRow, readable
from services.forward.spool.rows import DAMAGED, NO_PLACE, WAITING, insert

MAKING = "replacement.db"
COMPLETE = "replacement-complete.db"
MOST_DAMAGED = 2
"""The most damaged databases that are kept, for a look at them."""

_AT_ONCE = 64

log = structlog.get_logger()


def replace(
    path: Path,
    damaged: sqlite3.Connection | None,
    why: str,
    next_sequence: Callable[[], int] | None = None,
    *,
    gone: Collection[str] = (),
    wanted_bytes: int | None = None,
) -> None:
    """Put a new database in the place of one, and move that aside.

    Args:
        path: the database's; the file may be deleted, and the connection still have it.
        damaged: the connection to it, closed here; None if it cannot be opened.
        why: for the log.
        next_sequence: returns a place for faces whose own place another may have by now; by default they come
            behind all others.
        gone: ids of faces that the store has, which are left out.
        wanted_bytes: how much room the new one takes; by default as much as the damaged one.

    Raises:
        SpoolFull: there is no room for the copy; nothing has changed.
        SpoolUnwritable: the disk takes no writes; nothing has changed.
        OSError: the copy is complete and could not be put in its place; only another start can go on.
    """
    with translated():
        _remove(path.with_name(MAKING))
        if wanted_bytes is None:
            wanted_bytes = database.taken_bytes(path)
        if not has_room(path, wanted_bytes):
            raise SpoolFull(f"no room to write {path.name} anew: {wanted_bytes} bytes")
        try:
            rescued = _copy(path, damaged, next_sequence, gone)
        except (SpoolFull, SpoolUnwritable):
            _remove(path.with_name(MAKING))
            raise
    with translated():
        path.with_name(MAKING).rename(path.with_name(COMPLETE))
    # From here on the copy is the spool. What fails now ends the process, and the next start goes on. Were it
    # taken for a full disk, another copy would be made, of a database that may have been moved already.
    if damaged is not None:
        damaged.close()
    sync_folder(path.parent)
    moved_to = finish(path)
    log.error("spool.replaced", why=why, moved_to=moved_to, rescued=dict(rescued))


def finish(path: Path) -> str | None:
    """Put a complete replacement in its place; return the new name of what was there, None if there is none.

    An incomplete one is removed, to have room for the next.
    """
    complete = path.with_name(COMPLETE)
    if not complete.exists():
        _remove(path.with_name(MAKING))
        return None
    # From the replacement's own time, so that a second try uses the same name.
    made_at = datetime.fromtimestamp(complete.stat().st_mtime, UTC)
    aside = f"damaged-{made_at:%Y%m%dT%H%M%S}-{path.name}"
    for suffix in reversed(SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(aside + suffix))
    # The old log must never lie beside the new database.
    sync_folder(path.parent)
    complete.rename(path)
    sync_folder(path.parent)
    bound_damaged(path.parent, MOST_DAMAGED)
    return aside


def damaged_files(folder: Path) -> list[Path]:
    """Return the damaged databases that were moved aside, the newest last."""
    return sorted(path for path in folder.glob("damaged-*") if not path.name.endswith(SUFFIXES[1:]))


def bound_damaged(folder: Path, most: int) -> int:
    """Remove the oldest damaged databases, of which all that can be read was rescued; return how many."""
    if (folder / COMPLETE).exists():
        return 0  # the database may still be the damaged one
    files = damaged_files(folder)
    too_many = files[: max(0, len(files) - most)]
    for path in too_many:
        _remove(path)
        log.warning("spool.damaged_removed", file=path.name)
    return len(too_many)


def remove_damaged_before(folder: Path, time_s: float) -> None:
    """Remove damaged databases that were moved aside before a time, Unix time: faces are in them, too."""
    if (folder / COMPLETE).exists():
        return
    for path in damaged_files(folder):
        with translated():
            is_old = path.stat().st_mtime < time_s
            if is_old:
                _remove(path)
        if is_old:
            log.warning("spool.damaged_removed", file=path.name)


def _copy(
    path: Path,
    damaged: sqlite3.Connection | None,
    next_sequence: Callable[[], int] | None,
    gone: Collection[str],
) -> Counter[str]:
    """Make the replacement; return how many rows each of its tables has."""
    with contextlib.closing(database.connect(path.with_name(MAKING))) as new:
        copy = _Copy(new, next_sequence, gone)
        copy.take(readable(path, damaged))
        if damaged is not None:
            _copy_requests(damaged, new)
        with translated():
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return copy.rows


def _copy_requests(damaged: sqlite3.Connection, new: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.DatabaseError), new:
        for request in damaged.execute("SELECT * FROM requests").fetchall():
            new.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", request)


def has_room(path: Path, wanted_bytes: int) -> bool:
    """Say whether the disk has room for a copy of this size."""
    return free_bytes(path.parent) >= wanted_bytes


def _remove(path: Path) -> None:
    for file in database.files(path):
        if file.exists():  # else a read-only disk refuses even what is not there
            file.unlink()


class _Copy:
    """Writes what was found into the new database, each face once.

    Args:
        new: the new database.
        next_sequence: see `replace`.
        gone: see `replace`.

    Attributes:
        rows: how many it has now, by table.
    """

    def __init__(
        self, new: sqlite3.Connection, next_sequence: Callable[[], int] | None, gone: Collection[str]
    ) -> None:
        self.rows = Counter[str]()
        self._new = new
        self._ids: set[str] = set(gone)
        self._last_sequence = 0
        self._next_sequence = next_sequence or (lambda: self._last_sequence + 1)
        self._now_s = time.time()

    def take(self, found: Iterator[FoundRow]) -> None:
        """Write all of it, some rows in a commit: the log must not become as large as the database."""
        while some := list(itertools.islice(found, _AT_ONCE)):
            with translated(), self._new:
                for row in some:
                    self._write(row)

    def _write(self, row: FoundRow) -> None:
        face = from_row(row.place, row.columns)
        if face is None:
            if row.is_live:
                self._set_aside(row.columns, DAMAGED)
            return
        if face.id in self._ids:
            return
        self._ids.add(face.id)
        if row.table == WAITING:
            self._insert(face if row.is_live else dataclasses.replace(face, sequence=self._next_sequence()))
        elif row.table == "quarantine":
            self._quarantine(face, row.columns, _as_text(row.reason))
        else:
            self._set_aside(row.columns, _as_text(row.reason))

    def _insert(self, face: SpooledFace) -> None:
        if face.sequence < NO_PLACE:
            self._last_sequence = max(self._last_sequence, face.sequence)
        self.rows["faces"] += insert(self._new, [face], self._now_s)

    def _quarantine(self, face: SpooledFace, columns: Sequence[object], reason: str) -> None:
        self._new.execute(
            "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
            (face.id, self._now_s, reason, *_as_texts(columns)[1:]),
        )
        self.rows["quarantine"] += 1

    def _set_aside(self, columns: Sequence[object], reason: str) -> None:
        self._new.execute(
            "INSERT INTO set_aside (since, reason, id, topic, content_type, attributes, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._now_s, reason, *_as_texts(columns)),
        )
        self.rows["set_aside"] += 1


def _as_texts(columns: Sequence[object]) -> list[object]:
    """Return a face's columns as they were: all but the image as texts, if damage has left them texts."""
    *texts, payload = columns
    return [*map(_as_text_if_it_is, texts), payload]


def _as_text_if_it_is(value: object) -> object:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _as_text(reason: bytes | None) -> str:
    return (reason or b"").decode(errors="replace") or DAMAGED
