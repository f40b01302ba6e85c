"""The spool on disk, in whatever state its database and its disk are."""

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from services.forward.spool import database, opening, replacement
from services.forward.spool.commands import BacklogPart, BacklogRead, Changes, PutBackRequest, RowPlace
from services.forward.spool.database import SpoolDamaged, SpoolFull, SpoolUnwritable, translated
from services.forward.spool.expiry import FaceAges, Removed
from services.forward.spool.folder import DISK_FULL, Reserve, SpoolFolder
from services.forward.spool.opening import Opened, nowhere
from services.forward.spool.rescue import Rescue
from services.forward.spool.tables import SpoolState, Tables

DATABASE = "spool.db"
RESERVE = "reserve"
DAMAGED_AND_FULL = "the spool is damaged, and the disk has no room to write it anew"

log = structlog.get_logger()


class Spool:
    """The folder in which faces wait: a database, and a reserve of disk space.

    For one thread; every method waits for the disk. One process at a time may have a spool open, see
    `lock.hold`.

    Args:
        folder: where it is.
        reserve_bytes: room kept for deletes and a checkpoint, which would fail on a full disk.
        device: this device, whose faces alone can be delivered from here.

    Raises:
        SetupError: a newer version's spool is in the folder.
        SpoolFull: there is no room to open it, even without the reserve. A damaged one, for whose replacement
            there is none, is opened all the same: see `Rescue`.
        SpoolUnwritable: the disk does not let it be opened.
    """

    def __init__(self, folder: Path, reserve_bytes: int, device: str) -> None:
        self._path = folder / DATABASE
        self._folder = SpoolFolder(folder)
        self._reserve = Reserve(folder / RESERVE, reserve_bytes)
        self._device = device
        self._rescue: Rescue | None = None
        self._tables = Tables(self._path, device)
        with translated():
            replacement.finish(self._path)
        last_sequence = self._begin()
        self._sequences = itertools.count(last_sequence + 1)
        self._ages = FaceAges(last_sequence, time.monotonic())
        if self._rescue is None:  # else its room is wanted to write the spool anew
            self._reserve.keep()

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self._tables.connection.close()

    def next_sequence(self) -> int:
        """Return the place of the next face. May be called from any thread."""
        return next(self._sequences)

    def last_sequence(self) -> int:
        """Return the newest face's place; 0 for an empty spool."""
        if self._rescue is not None:
            return self._rescue.survey[1]
        return self._tables.last_sequence()

    @property
    def others(self) -> list[str]:
        """Some topics of faces that were not this device's when the spool was opened."""
        return self._tables.others

    @property
    def whole(self) -> Tables:
        """The tables, for what cannot be done with a damaged database.

        Raises:
            SpoolFull: the database is damaged, and there is no room to write it anew.
        """
        if self._rescue is not None:
            raise SpoolFull(DAMAGED_AND_FULL)
        return self._tables

    def state(self) -> SpoolState:
        """Return what is held. Cheap: nothing is counted anew.

        Raises:
            SpoolDamaged: the database is broken; call `replace`.
            SpoolUnwritable: the disk does not give it.
        """
        tables = self._tables
        if self._rescue is not None:
            left = self._rescue.waiting(tables.faces)
            taken_bytes = database.taken_bytes(self._path)
            return SpoolState(left, tables.quarantined, dict(+tables.aside), taken_bytes, None)
        with translated():
            size, oldest, held_since_s = database.size_and_oldest(tables.connection)
        log_path = self._path.with_name(f"{DATABASE}-wal")
        with contextlib.suppress(FileNotFoundError):
            size += log_path.stat().st_size
        since_s = None if oldest is None else self._since_s(oldest, held_since_s)
        return SpoolState(tables.faces, tables.quarantined, dict(+tables.aside), size, since_s)

    def write(self, changes: Changes) -> int:
        """Commit one batch; return how many faces are new. When this returns, they have reached the disk.

        A batch without inserts is not waited for: a face that comes back after a power cut is only sent once
        more.

        Raises:
            SpoolFull, SpoolUnwritable: nothing of the batch was done.
            SpoolDamaged: nothing of the batch is safe; call `replace`.
        """
        if self._rescue is not None:
            if changes.inserts:
                raise SpoolFull(DAMAGED_AND_FULL)
            self._rescue.mark_gone(changes.deletes)
            self._rescue.refused.update(changes.refused)
            return 0
        added = self._tables.write(changes)
        if changes.inserts:
            self._ages.came(max(face.sequence for face in changes.inserts), time.monotonic())
        return added

    def read(self, read: BacklogRead) -> BacklogPart:
        """Return a part of the backlog: about `most_bytes` of it, at least one face if there is one.

        It is empty if only first pictures are wanted, and there is no index of them.

        Raises:
            SpoolDamaged: the database is broken; call `replace`.
            SpoolUnwritable: the disk does not give it.
        """
        if self._rescue is None:
            return self._tables.read(read)
        return BacklogPart([], read.until) if read.only_firsts else self._rescue.read(read)

    def bound_quarantine(self, most_bytes: int) -> list[str]:
        """Delete the oldest refused faces until the rest takes no more bytes; return the deleted ids."""
        return [] if self._rescue is not None else self._tables.bound_quarantine(most_bytes)

    def expire(self, limit: datetime) -> Removed:
        """Delete some of what was taken before a time; see `expiry.expire`. Call again while there is any.

        Raises:
            SpoolFull, SpoolUnwritable: nothing was done.
            SpoolDamaged: the database is broken; call `replace`.
        """
        replacement.remove_damaged_before(self._path.parent, limit.timestamp())
        return Removed() if self._rescue is not None else self._tables.expire(limit)

    def requests(self) -> list[tuple[int, PutBackRequest]]:
        """Return operators' requests to put faces back, with their numbers; none while none can be done."""
        return [] if self._rescue is not None else self._tables.requests()

    def put_back(self, places: Sequence[RowPlace], device: str | None) -> tuple[list[str], int]:
        """Put faces back among those that wait; see `rows.put_back`.

        Args:
            places: where they are; only some are looked at if they are too many for one commit.
            device: see `PutBackRequest`; of no effect if it is not this device.

        Returns:
            the ids of those that were put back, and how many places were looked at.

        Raises:
            SpoolFull, SpoolUnwritable: none was moved.
            SpoolDamaged: the database is broken; call `replace`.
        """
        back, seen = self.whole.put_back(places, device, self.next_sequence)
        self._ages.came(self.last_sequence(), time.monotonic())
        return back, seen

    def why_no_room(self) -> str | None:
        """Return None while faces may be written, else why not.

        Without the reserve none may be: a new face would take the room that deletes need.
        """
        if self._rescue is not None:
            return DAMAGED_AND_FULL
        if not self._reserve.is_kept or not self._reserve.is_room_left():
            return DISK_FULL
        return None

    def make_room(self) -> None:
        """Release the reserve, and move the log into the database.

        Raises:
            SpoolUnwritable: the disk takes no writes.
        """
        try:
            replacement.bound_damaged(self._path.parent, 0)
            self._reserve.release()
        except OSError as error:
            raise SpoolUnwritable(str(error)) from error
        if self._rescue is None:
            with contextlib.suppress(SpoolFull), translated():
                self._tables.bring_log_in()

    def tidy(self, *, is_tight: bool) -> None:
        """Give room back to the disk, restore the reserve if there is enough, and check that the disk works.

        Args:
            is_tight: there may be little room: go in small steps, since each takes room before it frees more.

        Raises:
            SpoolUnwritable: the disk takes no writes.
            SpoolDamaged: the database is broken, or it was found broken before and there is room now to write
                it anew; call `replace`.
            SpoolTaken: the folder was replaced.
        """
        self._folder.see(is_empty=self._tables.faces == 0)
        if self._rescue is not None:
            if replacement.has_room(self._path, self._rescue.wanted_bytes()):
                raise SpoolDamaged("there is room now to write it anew")
            return
        with contextlib.suppress(SpoolFull), translated():
            self._tables.shrink(is_tight=is_tight)
        try:
            self._keep_reserve()
        except OSError as error:
            raise SpoolUnwritable(str(error)) from error
        if self._tables.opened.is_exclusive and self._reserve.is_kept:
            self._share_again()

    def is_in_place(self) -> bool:
        """Say whether the open database is still the file of that name: people delete files."""
        if self._rescue is not None:
            return True
        with translated():
            return self._path.exists() and self._path.stat().st_ino == self._inode

    def replace(self, why: str) -> None:
        """Put a new database in the place of a damaged or missing one, with all faces that can be read.

        Raises:
            SpoolFull: there is no room for it; until `tidy` finds some, faces are read and deletes are
                remembered, but nothing is written.
            SpoolUnwritable: the disk takes no writes; nothing has changed.
            SpoolTaken: the folder was replaced.
        """
        self._folder.see(is_empty=self._tables.faces == 0)
        try:
            self._ages.came(self._write_anew(why, self.next_sequence), time.monotonic())
        except SpoolFull:
            if self._rescue is None:
                self._rescue_from(self._tables.connection, why)
            elif replacement.has_room(self._path, self._rescue.wanted_bytes()):
                self._rescue.had_no_room()  # `has_room` was wrong
            raise

    def _keep_reserve(self) -> None:
        self._reserve.keep()
        if not self._reserve.is_kept:
            # Damaged databases, which are kept only to be looked at, have to go.
            replacement.bound_damaged(self._path.parent, 0)
            self._reserve.keep()
        if self._reserve.is_kept:
            self._reserve.touch()

    def _write_anew(self, why: str, next_sequence: Callable[[], int] | None = None) -> int:
        """Replace the database and open the new one; return the newest face's place."""
        rescue = self._rescue
        if rescue is None:
            replacement.replace(self._path, self._tables.connection, why, next_sequence)
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
        self._tables.opened = opening.connect(self._path, self._device)
        last_sequence = self._take_stock()
        if rescue is not None and rescue.refused:
            with contextlib.suppress(SpoolFull):  # else they come again with the next connection
                self.write(Changes(refused=rescue.refused))
        return last_sequence

    def _begin(self) -> int:
        """Open the database and count, whatever state it is in; return the newest face's place."""
        try:
            self._tables.opened = opening.open_database(self._path, self._device, self._reserve)
        except SpoolDamaged as error:
            return self._begin_rescue(str(error), None)
        try:
            return self._take_stock()
        except SpoolDamaged as error:
            try:
                return self._write_anew(str(error))
            except SpoolFull:
                return self._begin_rescue(str(error), self._tables.connection)

    def _begin_rescue(self, why: str, damaged: sqlite3.Connection | None) -> int:
        if not database.taken_bytes(self._path):
            raise SpoolFull(f"no room to make one: {why}")
        if damaged is None:
            self._tables.opened = Opened(nowhere())
        faces, last_sequence = self._rescue_from(damaged, why).survey
        self._tables.assume(faces)
        with contextlib.suppress(SpoolUnwritable):
            self.make_room()
        return last_sequence

    def _rescue_from(self, damaged: sqlite3.Connection | None, why: str) -> Rescue:
        """Send from a damaged database for as long as there is no room for another."""
        log.error("spool.damaged_and_no_room", why=why)
        self._rescue = Rescue(self._path, damaged, self._device)
        return self._rescue

    def _share_again(self) -> None:
        """Open the database so that others can read it: with the index of its log on the disk again."""
        self._tables.connection.close()
        # If it fails it is tried again with the next tidying; what is known of the database stays.
        self._tables.opened = replace(self._tables.opened, connection=nowhere())
        self._tables.opened = opening.open_database(self._path, self._device, self._reserve)

    def _take_stock(self) -> int:
        """Read all that is read later on, so that damage shows now; return the newest face's place."""
        self._inode = self._path.stat().st_ino
        self._tables.take_stock()
        return self._tables.last_sequence()

    def _since_s(self, sequence: int, held_since_s: float | None) -> float:
        now_s = time.monotonic()
        return now_s - self._ages.oldest_s(sequence, held_since_s, time.time(), now_s)
