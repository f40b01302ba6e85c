import contextlib
import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog

from services.common.erasure.selection import Selection
from services.forward.spool import database, opening, replacement, rows
from services.forward.spool.backlog import BacklogPart, BacklogRead
from services.forward.spool.database import SpoolDamaged, SpoolFull, SpoolUnwritable, translated
from services.forward.spool.expiry import Ages, Expired, erase, expire
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import DISK_FULL, Folder, Reserve
from services.forward.spool.opening import Opened, nowhere
from services.forward.spool.rescue import Rescue
from services.forward.spool.rows import Place, Request

DATABASE = "spool.db"
RESERVE = "reserve"
DAMAGED_AND_FULL = "the spool is damaged, and the disk has no room to write it anew"
MOST_WRITTEN_ANEW_BYTES = 32 * 1024 * 1024
_VACUUM_PAGES = 2_048
_TIGHT_STEPS = 16
_MOST_BAD_AT_ONCE = 256

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What a spool holds.

    Attributes:
        faces: how many wait for the store's receipt.
        quarantined: how many the store has refused.
        set_aside: how many cannot be delivered as things are, by reason.
        bytes: what all take in the database, and its log.
        oldest_since_s: since when the one held longest is held, by the steady clock, whose start may lie
            behind it; nothing if there is none.
    """

    faces: int
    quarantined: int
    set_aside: Mapping[str, int]
    bytes: int
    oldest_since_s: float | None


@dataclass(frozen=True, slots=True)
class Changes:
    """One batch of changes to a spool.

    Attributes:
        inserts: new faces; of one that is held already the row is repaired, if it was damaged.
        deletes: ids of faces to let go.
        refused: ids of faces to move into quarantine, with the reason.
    """

    inserts: Sequence[SpooledFace] = ()
    deletes: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Spool:
    """The folder in which faces wait: a database, and a reserve of disk space.

    For one thread; every method waits for the disk. One process at a time may have a spool open, see
    `common.lock.hold`.

    Args:
        folder: where it is.
        reserve_bytes: room kept for deletes and a checkpoint, which a full disk would make fail as well.
        device: this device, whose faces alone can be delivered from here.

    Raises:
        SetupError: a newer version's spool is in the folder.
        SpoolFull: there is no room to open it, even without the reserve. A damaged one, for whose replacement
            there is none, is opened all the same: see `Rescue`.
        SpoolUnwritable: the disk does not let it be opened.
    """

    def __init__(self, folder: Path, reserve_bytes: int, device: str) -> None:
        self._path = folder / DATABASE
        self._folder = Folder(folder)
        self._reserve = Reserve(folder / RESERVE, reserve_bytes)
        self._device = device
        self._rescue: Rescue | None = None
        self._opened: Opened
        self._others: list[str] = []
        with translated():
            replacement.finish(self._path)
        last_sequence = self._begin()
        self._sequences = itertools.count(last_sequence + 1)
        self._ages = Ages(last_sequence, time.monotonic())
        if self._rescue is None:  # else its room is wanted to write the spool anew
            self._reserve.keep()

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._opened.connection

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self._connection.close()

    def next_sequence(self) -> int:
        """Return the place of the next face. May be called from any thread."""
        return next(self._sequences)

    def last_sequence(self) -> int:
        """Return the newest face's place; 0 for an empty spool."""
        if self._rescue is not None:
            return self._rescue.survey[1]
        with translated():
            (last,) = self._connection.execute(
                "SELECT max(sequence) FROM faces WHERE sequence < ?", (rows.NO_PLACE,)
            ).fetchone()
        return max(0, int(last or 0))

    @property
    def others(self) -> list[str]:
        """The topics, a few of them, of faces that were not this device's when it was opened."""
        return self._others

    def state(self) -> SpoolState:
        """Return what is held. Cheap: nothing is counted anew."""
        if self._rescue is not None:
            left = self._rescue.waiting(self._faces)
            taken_bytes = database.taken_bytes(self._path)
            return SpoolState(left, self._quarantined, dict(+self._aside), taken_bytes, None)
        with translated():
            size, oldest, held_since_s = database.size_and_oldest(self._connection)
        log_path = self._path.with_name(f"{DATABASE}-wal")
        with contextlib.suppress(FileNotFoundError):
            size += log_path.stat().st_size
        since_s = None if oldest is None else self._since_s(oldest, held_since_s)
        return SpoolState(self._faces, self._quarantined, dict(+self._aside), size, since_s)

    def write(self, changes: Changes) -> int:
        """Commit one batch; return how many faces are new. When this returns, they have reached the disk.

        What only lets go of faces is not waited for: one that comes back after a power cut is sent once more,
        and the store has it already.

        Raises:
            SpoolFull: nothing of the batch was done.
            SpoolUnwritable: neither.
            SpoolDamaged: nothing of the batch is safe; call `replace`.
        """
        if self._rescue is not None:
            if changes.inserts:
                raise SpoolFull(DAMAGED_AND_FULL)
            self._rescue.let_go(changes.deletes)
            self._rescue.refused.update(changes.refused)
            return 0
        now_s = time.time()
        waiting = contextlib.nullcontext() if changes.inserts else database.unsynced(self._connection)
        with translated(), waiting, self._connection:
            added = rows.insert(self._connection, changes.inserts, now_s)
            moved = rows.quarantine(self._connection, changes.refused, now_s)
            gone, given_up = rows.delete(self._connection, changes.deletes)
        self._faces += added - moved - gone
        self._quarantined += moved
        self._aside[rows.UNANSWERED] -= given_up
        if changes.inserts:
            self._ages.came(max(face.sequence for face in changes.inserts), time.monotonic())
        return added

    def read(self, read: BacklogRead) -> BacklogPart:
        """Return a part of the backlog: about `most_bytes` of it, at least one face if there is one.

        Where first pictures are wanted only, and nothing tells which they are, it is none.

        Raises:
            SpoolDamaged: the database is broken; call `replace`.
            SpoolUnwritable: the disk does not give it.
        """
        if read.only_firsts and (self._rescue is not None or not self._opened.knows_firsts):
            return BacklogPart([], read.until)
        if self._rescue is not None:
            return self._rescue.read(read)
        part = BacklogPart([], read.until)
        weight = 0
        last = read.after
        with translated():
            for sequence, found in rows.select(self._connection, self._device, read):
                if sequence <= last:  # else the same ones would be read for ever
                    raise SpoolDamaged("its places are out of order")
                last = sequence
                if isinstance(found, str):
                    part.bad[sequence] = found
                else:
                    part.faces.append(found)
                    weight += found.size_bytes
                if weight >= read.most_bytes or len(part.bad) >= _MOST_BAD_AT_ONCE:
                    return replace(part, until=sequence)
        return part

    def set_aside(self, faces: Mapping[str, str], bad_rows: Mapping[int, str]) -> list[str | int]:
        """Set faces aside by their id, and rows by their place, each with the reason.

        Returns:
            those that were; not more than fit into one commit.

        Raises:
            SpoolFull, SpoolUnwritable: nothing was done.
            SpoolDamaged: nothing is safe; call `replace`.
        """
        self._see_whole()
        now_s = time.time()
        with translated(), self._connection:
            moves = rows.set_aside(self._connection, faces, bad_rows, now_s)
        self._faces -= moves.gone
        self._aside += moves.came
        return moves.done

    def bound_quarantine(self, most_bytes: int) -> list[str]:
        """Let the oldest refused faces go until the rest weighs no more; return the ids of those."""
        if self._rescue is not None:
            return []
        with translated(), self._connection:
            gone = rows.bound_quarantine(self._connection, most_bytes)
        self._quarantined -= len(gone)
        return gone

    def expire(self, limit: datetime) -> Expired:
        """Let go of some of what was taken before a time; see `expiry.expire`. Call again while there is any.

        Raises:
            SpoolFull, SpoolUnwritable: nothing was done.
            SpoolDamaged: the database is broken; call `replace`.
        """
        replacement.remove_damaged_before(self._path.parent, limit.timestamp())
        if self._rescue is not None:
            return Expired()
        with translated(), self._connection:
            gone = expire(self._connection, limit, time.time())
            if gone:
                self._count_waiting()
                self._count_apart()
        return gone

    def erase(self, selection: Selection) -> Expired:
        """Let go of some of what is to be erased; call again while there is any, and then `scrub`.

        Raises:
            SpoolFull, SpoolUnwritable: nothing was done.
            SpoolDamaged: the database is broken; call `replace`.
        """
        self._see_whole()
        with translated(), database.overwriting(self._connection), self._connection:
            gone = erase(self._connection, selection)
            if gone:
                self._count_waiting()
                self._count_apart()
        return gone

    def scrub(self) -> int | None:
        """Have nothing left in any file of what was deleted; return how many files went for it.

        The database is written anew, for its pages have gaps that SQLite fills with whatever was there. That
        takes twice its room, and time; so nothing is returned while there is too much of it, and it is to be
        tried again when most of it has been sent.

        Raises:
            SpoolFull, SpoolUnwritable: see `erase`.
        """
        self._see_whole()
        # What could be read of these was rescued, and nobody can tell what else is in them.
        removed = replacement.bound_damaged(self._path.parent, 0)
        with translated():
            size, _, _ = database.size_and_oldest(self._connection)
            if size > MOST_WRITTEN_ANEW_BYTES or not replacement.has_room(self._path, 2 * size):
                return None
            self._connection.execute("VACUUM")
            busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return None if busy else removed

    def requests(self) -> list[tuple[int, Request]]:
        """Return what people have asked to go back, by the request's number; nothing while none can."""
        if self._rescue is not None:
            return []
        with translated():
            return rows.requests(self._connection)

    def find_apart(self, request: Request) -> list[Place]:
        """Return where the faces are that a request means.

        Raises:
            SpoolFull: none can go back now.
        """
        self._see_whole()
        with translated():
            return rows.find_apart(self._connection, request, self._device)

    def put_back(self, places: Sequence[Place], device: str | None) -> tuple[list[str], int]:
        """Move faces that are apart back among those that wait; see `rows.put_back`.

        Args:
            places: where they are; not all are looked at if they are more than fit into one commit.
            device: see `Request`; of no effect if it is not this device.

        Returns:
            the ids of those that are there now, and how many places were looked at.

        Raises:
            SpoolFull, SpoolUnwritable: none was moved.
            SpoolDamaged: the database is broken; call `replace`.
        """
        self._see_whole()
        with translated(), self._connection:
            ours = device if device == self._device else None
            back, seen = rows.put_back(self._connection, places, ours, self.next_sequence, time.time())
            self._count_apart()
            self._count_waiting()
        self._ages.came(self.last_sequence(), time.monotonic())
        return back, seen

    def answer(self, number: int) -> None:
        """Forget a request: it is done.

        Raises:
            SpoolFull: it cannot be forgotten now.
        """
        self._see_whole()
        with translated(), self._connection:
            rows.answer(self._connection, number)

    def why_no_room(self) -> str | None:
        """Return None while faces may be written, else why not.

        None may be without the reserve: it would take the room that letting go of the others needs.
        """
        if self._rescue is not None:
            return DAMAGED_AND_FULL
        if not self._reserve.is_kept or not self._reserve.is_room_left():
            return DISK_FULL
        return None

    def make_room(self) -> None:
        """Give the reserve's room to the database, and bring its log in.

        Raises:
            SpoolUnwritable: the disk is not full, it takes no writes.
        """
        try:
            replacement.bound_damaged(self._path.parent, 0)
            self._reserve.release()
        except OSError as error:
            raise SpoolUnwritable(str(error)) from error
        if self._rescue is None:
            with contextlib.suppress(SpoolFull), translated():
                self._checkpoint()

    def tidy(self, *, is_tight: bool) -> None:
        """Give room back to the disk, keep the reserve again if there is enough, and see that the disk works.

        Args:
            is_tight: there may be little room; so in small steps, for each takes some before it gives more.

        Raises:
            SpoolUnwritable: it takes no writes.
            SpoolDamaged: the database is broken; call `replace`. Of one that was found to be, and for which
                there was no room, this says that there is now.
            SpoolTaken: the folder was replaced.
        """
        self._folder.see(is_empty=self._faces == 0)
        if self._rescue is not None:
            if replacement.has_room(self._path, self._rescue.wanted_bytes()):
                raise SpoolDamaged("there is room now to write it anew")
            return
        with contextlib.suppress(SpoolFull), translated():
            for _ in range(_TIGHT_STEPS if is_tight else 1):
                # As a script, for `execute` takes a single step of it, which is a single page.
                pages = _VACUUM_PAGES // _TIGHT_STEPS if is_tight else _VACUUM_PAGES
                self._connection.executescript(f"PRAGMA incremental_vacuum({pages})")
                self._checkpoint()
        try:
            self._reserve.keep()
            if not self._reserve.is_kept:
                # The room of what is kept for a look alone is wanted.
                replacement.bound_damaged(self._path.parent, 0)
                self._reserve.keep()
            if self._reserve.is_kept:
                self._reserve.touch()
        except OSError as error:
            raise SpoolUnwritable(str(error)) from error
        if self._opened.is_exclusive and self._reserve.is_kept:
            self._share_again()

    def is_in_place(self) -> bool:
        """Say whether the database is still the file of its name, for people do delete files."""
        if self._rescue is not None:
            return True
        with translated():
            return self._path.exists() and self._path.stat().st_ino == self._inode

    def replace(self, why: str) -> None:
        """Put a new database in the place of a damaged or missing one, with all faces that can be read.

        Raises:
            SpoolFull: there is no room for it; until `tidy` finds some, faces are read, and those that are
                let go remembered, but nothing is written.
            SpoolUnwritable: the disk takes no writes; nothing has changed.
            SpoolTaken: the folder was replaced.
        """
        self._folder.see(is_empty=self._faces == 0)
        try:
            self._ages.came(self._write_anew(why, self.next_sequence), time.monotonic())
        except SpoolFull:
            if self._rescue is None:
                self._rescue_from(self._connection, why)
            elif replacement.has_room(self._path, self._rescue.wanted_bytes()):
                self._rescue.had_no_room()  # there seemed to be enough, and there was not
            raise

    def _see_whole(self) -> None:
        if self._rescue is not None:
            raise SpoolFull(DAMAGED_AND_FULL)

    def _write_anew(self, why: str, next_sequence: Callable[[], int] | None = None) -> int:
        """Replace the database and open the new one; return the newest face's place."""
        rescue = self._rescue
        if rescue is None:
            replacement.replace(self._path, self._connection, why, next_sequence)
        else:
            replacement.replace(
                self._path,
                rescue.damaged,
                why,
                next_sequence,
                gone=rescue.gone,
                wanted_bytes=rescue.wanted_bytes(),
            )
            self._rescue = None
        self._opened = opening.connect(self._path, self._device)
        last_sequence = self._take_stock()
        if rescue is not None and rescue.refused:
            with contextlib.suppress(SpoolFull):  # else they come again with the next connection
                self.write(Changes(refused=rescue.refused))
        return last_sequence

    def _begin(self) -> int:
        """Open the database and take stock, whatever state it is in; return the newest face's place."""
        try:
            self._opened = opening.open_database(self._path, self._device, self._reserve)
        except SpoolDamaged as error:
            return self._begin_rescue(str(error), None)
        try:
            return self._take_stock()
        except SpoolDamaged as error:
            try:
                return self._write_anew(str(error))
            except SpoolFull:
                return self._begin_rescue(str(error), self._connection)

    def _begin_rescue(self, why: str, damaged: sqlite3.Connection | None) -> int:
        if not database.taken_bytes(self._path):
            raise SpoolFull(f"no room to make one: {why}")
        if damaged is None:
            self._opened = Opened(nowhere())
        self._quarantined = 0
        self._aside = Counter[str]()
        self._faces, last_sequence = self._rescue_from(damaged, why).survey
        with contextlib.suppress(SpoolUnwritable):
            self.make_room()
        return last_sequence

    def _rescue_from(self, damaged: sqlite3.Connection | None, why: str) -> Rescue:
        """Send from a damaged database, for as long as there is no room for another."""
        log.error("spool.damaged_and_no_room", why=why)
        self._rescue = Rescue(self._path, damaged, self._device)
        return self._rescue

    def _share_again(self) -> None:
        """Have the index of the log on the disk again, where others who look can see it."""
        self._connection.close()
        # It is tried again with the next tidying if it fails: what is known of the database stays.
        self._opened = replace(self._opened, connection=nowhere())
        self._opened = opening.open_database(self._path, self._device, self._reserve)

    def _take_stock(self) -> int:
        """Look at all that is looked at on the way; return the newest face's place."""
        self._inode = self._path.stat().st_ino
        with translated():
            self._count_waiting()
            self._count_apart()
        self._repair_places()
        self._others = self._find_others()
        with translated():
            database.size_and_oldest(self._connection)
        return self.last_sequence()

    def _since_s(self, sequence: int, held_since_s: float | None) -> float:
        now_s = time.monotonic()
        return now_s - self._ages.oldest_s(sequence, held_since_s, time.time(), now_s)

    def _find_others(self) -> list[str]:
        condition = database.not_of(self._device)
        with translated():
            found = self._connection.execute(
                f"SELECT DISTINCT CAST(topic AS BLOB) FROM faces WHERE {condition} LIMIT 10"  # noqa: S608 - a name
            ).fetchall()
        topics = [topic.decode(errors="replace")[:200] for (topic,) in found]
        return [topic for topic in topics if rows.IS_FACE_TOPIC.fullmatch(topic)]  # the others are damaged

    def _repair_places(self) -> None:
        """Give rows a place that can be one: damage makes any number of it, and behind some are no others."""
        wanted = "faces WHERE sequence >= ?"
        with translated(), self._connection:
            if self._connection.execute(f"SELECT 1 FROM {wanted} LIMIT 1", (rows.NO_PLACE,)).fetchone():  # noqa: S608
                self._connection.execute(
                    "UPDATE faces SET sequence = -sequence WHERE sequence >= ?", (rows.NO_PLACE,)
                )

    def _count_waiting(self) -> None:
        (self._faces,) = self._connection.execute("SELECT count(*) FROM faces").fetchone()

    def _count_apart(self) -> None:
        (self._quarantined,) = self._connection.execute("SELECT count(*) FROM quarantine").fetchone()
        by_reason = self._connection.execute("SELECT reason, count(*) FROM set_aside GROUP BY reason")
        self._aside = Counter(dict(by_reason.fetchall()))

    def _checkpoint(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
