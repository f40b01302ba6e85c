import contextlib
import itertools
import os
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from services.common.durable import sync_folder
from services.common.errors import SetupError
from services.forward import database
from services.forward.database import SpoolDamaged, SpoolFull, translated
from services.forward.outbox import BacklogRead
from services.forward.spooled import SpooledFace

DATABASE = "spool.db"
RESERVE = "reserve"
REPLACEMENT = "replacement.db"
_SUFFIXES = ("", "-wal", "-shm")
_COPIED_AT_ONCE = 64
_VACUUM_PAGES = 2_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What a spool holds.

    Attributes:
        faces: how many wait for the store's receipt.
        quarantined: how many the store has refused.
        bytes: what both take in the database, and its log.
        oldest_at_s: since when the one held longest is held, Unix time; nothing if there is none.
    """

    faces: int
    quarantined: int
    bytes: int
    oldest_at_s: float | None


class Spool:
    """The folder in which faces wait: a database, and a reserve of disk space.

    For one thread; every method waits for the disk. One process at a time may have a spool open, see
    `common.lock.hold`.

    Args:
        folder: where it is.
        reserve_bytes: room kept for deletes and a checkpoint, which a full disk would make fail as well.

    Raises:
        SetupError: the folder cannot be written, or a newer version's spool is in it.
        SpoolFull: there is no room to open it, even without the reserve.
    """

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._path = folder / DATABASE
        self._reserve = folder / RESERVE
        self._reserve_bytes = reserve_bytes
        self._finish_replacement()
        self._connection = self._open()
        try:
            self._take_stock()
        except SpoolDamaged:
            self.replace()
        self._keep_reserve()

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self._connection.close()

    def last_sequence(self) -> int:
        """Return the newest face's place; 0 for an empty spool."""
        with translated():
            (last,) = self._connection.execute("SELECT max(sequence) FROM faces").fetchone()
        return int(last or 0)

    def state(self) -> SpoolState:
        """Return what is held. Cheap: nothing is counted anew."""
        with translated():
            size, oldest_at_s = database.size_and_age(self._connection)
        log_path = self._path.with_name(f"{DATABASE}-wal")
        with contextlib.suppress(FileNotFoundError):
            size += log_path.stat().st_size
        return SpoolState(self._faces, self._quarantined, size, oldest_at_s)

    def write(self, inserts: list[SpooledFace], deletes: list[str], refused: dict[str, str]) -> None:
        """Commit one batch. When this returns, it has reached the disk.

        Args:
            inserts: new faces; one that is held already stays as it is.
            deletes: ids of faces to let go.
            refused: ids of faces to move into quarantine, with the reason.

        Raises:
            SpoolFull: nothing of the batch was done.
            SpoolDamaged: nothing of the batch is safe; call `replace`.
        """
        now_s = time.time()
        with translated(), self._connection:
            added = database.insert(self._connection, inserts, now_s)
            moved = database.quarantine(self._connection, refused, now_s)
            gone = database.delete(self._connection, deletes)
        self._faces += added - moved - gone
        self._quarantined += moved

    def read(self, read: BacklogRead) -> list[SpooledFace]:
        """Return a part of the backlog: about `most_bytes` of it, at least one face if there is one.

        Raises:
            SpoolDamaged: the database is broken; call `replace`.
        """
        faces: list[SpooledFace] = []
        weight = 0
        with (
            translated(),
            contextlib.closing(database.select(self._connection, read.after, read.until)) as found,
        ):
            for face in found:
                faces.append(face)
                weight += face.size_bytes
                if weight >= read.most_bytes:
                    break
        return faces

    def bound_quarantine(self, most_bytes: int) -> int:
        """Let the oldest refused faces go until the rest weighs no more; return how many went."""
        with translated(), self._connection:
            gone = self._connection.execute(
                "DELETE FROM quarantine WHERE id IN (SELECT id FROM (SELECT id, sum(length(payload))"
                " OVER (ORDER BY refused_at DESC, id) AS weight FROM quarantine) WHERE weight > ?)",
                (most_bytes,),
            ).rowcount
        self._quarantined -= gone
        return gone

    @property
    def has_reserve(self) -> bool:
        """Whether the reserve is there."""
        return self._reserve.exists()

    def make_room(self) -> None:
        """Give the reserve's room to the database, and bring its log in."""
        self._reserve.unlink(missing_ok=True)
        with contextlib.suppress(SpoolFull), translated():
            self._checkpoint()

    def tidy(self) -> None:
        """Give room back to the disk, and keep the reserve again if there is enough."""
        with contextlib.suppress(SpoolFull), translated():
            # As a script, for `execute` takes a single step of it, which is a single page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self._checkpoint()
        self._keep_reserve()

    def is_in_place(self) -> bool:
        """Say whether the database is still the file of its name, for people do delete files."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def replace(self) -> None:
        """Put a new database in the place of a damaged or missing one, with all faces that can be read.

        Raises:
            SpoolFull: there is no room for it.
        """
        self._replace(self._connection, "damaged or missing")
        self._take_stock()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except SpoolFull:
            if not self.has_reserve:
                raise
            # Even to be read a database takes room: for the index of its log.
            log.error("spool.disk_full")  # noqa: TRY400 - foreseen
            self._reserve.unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            return database.connect(self._path)
        except SpoolDamaged as error:
            with contextlib.closing(database.connect_to_read(self._path)) as damaged:
                self._replace(damaged, str(error))
            return self._connection

    def _replace(self, damaged: sqlite3.Connection, why: str) -> None:
        # The copy first, whole and on disk: until it is, the damaged one is all there is.
        rescued = self._copy(damaged)
        damaged.close()
        moved_to = self._move_aside()
        self._finish_replacement()
        self._connection = database.connect(self._path)
        log.error("spool.replaced", why=why, rescued=rescued, moved_to=moved_to)

    def _copy(self, damaged: sqlite3.Connection) -> int:
        """Write all faces that can be read into the replacement; return how many."""
        for suffix in _SUFFIXES:
            self._path.with_name(REPLACEMENT + suffix).unlink(missing_ok=True)
        rescued = 0
        with contextlib.closing(database.connect(self._path.with_name(REPLACEMENT))) as replacement:
            faces = database.rescue(damaged)
            while some := list(itertools.islice(faces, _COPIED_AT_ONCE)):
                with translated(), replacement:
                    rescued += database.insert(replacement, some, time.time())
            with translated():
                replacement.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return rescued

    def _finish_replacement(self) -> None:
        """Put a replacement in place where there is nothing else: what a crash in between would leave."""
        replacement = self._path.with_name(REPLACEMENT)
        if self._path.exists() or not replacement.exists():
            return
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                replacement.with_name(REPLACEMENT + suffix).rename(self._path.with_name(DATABASE + suffix))
        sync_folder(self._path.parent)

    def _move_aside(self) -> str:
        prefix = f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}-"
        for suffix in reversed(_SUFFIXES):
            path = self._path.with_name(DATABASE + suffix)
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_name(prefix + path.name))
        return prefix + DATABASE

    def _keep_reserve(self) -> None:
        if self.has_reserve or _free_bytes(self._path.parent) < 2 * self._reserve_bytes:
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._reserve_bytes)
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            log.warning("spool.no_reserve", error=str(error))

    def _take_stock(self) -> None:
        self._inode = self._path.stat().st_ino
        self._faces = self._count("faces")
        self._quarantined = self._count("quarantine")

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _count(self, table: str) -> int:
        with translated():
            (count,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
        return int(count)


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def prepare(folder: Path) -> None:
    """Make the spool's folder, and see that it can be written.

    Raises:
        SetupError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(f"FACEFERRY_SPOOL_PATH: {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SetupError(f"FACEFERRY_SPOOL_PATH: {folder} cannot be written")
