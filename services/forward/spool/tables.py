"""Changes of and reads from a spool's tables, a commit each, and how many faces they hold."""

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from services.common.erasure.selection import Selection
from services.forward.spool import database, expiry, replacement, rows
from services.forward.spool.commands import BacklogPart, BacklogRead, Changes, PutBackRequest, RowPlace
from services.forward.spool.database import SpoolDamaged, translated
from services.forward.spool.expiry import Removed
from services.forward.spool.opening import Opened

MOST_WRITTEN_ANEW_BYTES = 32 * 1024 * 1024
_VACUUM_PAGES = 2_048
_TIGHT_STEPS = 16
_MOST_BAD_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What a spool holds.

    Attributes:
        faces: how many wait for the store's receipt.
        quarantined: how many the store has refused.
        set_aside: how many cannot be delivered at present, by reason.
        bytes: what the database uses, and its log.
        oldest_since_s: since when the oldest face is held, by the monotonic clock (perhaps from before its
            start); None if there is none.
    """

    faces: int
    quarantined: int
    set_aside: Mapping[str, int]
    bytes: int
    oldest_since_s: float | None

    def oldest_s(self, now_s: float) -> float | None:
        """Return for how many seconds the oldest face is held, or None if there is none."""
        return None if self.oldest_since_s is None else now_s - self.oldest_since_s


class Tables:
    """The tables of a spool's database.

    Methods that change them raise `SpoolFull` or `SpoolUnwritable` if nothing was done, and `SpoolDamaged` if
    nothing is safe: the database is to be replaced then (see `Spool.replace`). Methods that read raise
    `SpoolUnwritable` if the disk does not give the data, and `SpoolDamaged`.

    Args:
        path: the database's.
        device: this device, whose faces alone can be delivered from here.

    Attributes:
        opened: the database; the spool opens it, before anything else is done here, and closes it.
        faces: how many wait. Like the next two it is counted once, and updated with each change.
        quarantined: how many the store has refused.
        aside: how many cannot be delivered at present, by reason.
        others: some topics of faces that were not this device's at the last `take_stock`.
    """

    def __init__(self, path: Path, device: str) -> None:
        self.opened: Opened
        self.others: list[str] = []
        self._path = path
        self._device = device
        self.assume(0)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the database."""
        return self.opened.connection

    def assume(self, faces: int) -> None:
        """Set the counts to this many that wait and no others, where nothing can be counted."""
        self.faces = faces
        self.quarantined = 0
        self.aside = Counter[str]()

    def take_stock(self) -> None:
        """Count, and read all that is read later on, so that damage shows now."""
        with translated():
            self._count_waiting()
            self._count_apart()
        self._repair_places()
        self.others = self._find_others()
        with translated():
            database.size_and_oldest(self.connection)

    def last_sequence(self) -> int:
        """Return the newest face's place; 0 if there is none."""
        with translated():
            (last,) = self.connection.execute(
                "SELECT max(sequence) FROM faces WHERE sequence < ?", (rows.NO_PLACE,)
            ).fetchone()
        return max(0, int(last or 0))

    def write(self, changes: Changes) -> int:
        """Commit one batch; return how many faces are new. See `Spool.write`."""
        now_s = time.time()
        waiting = contextlib.nullcontext() if changes.inserts else database.unsynced(self.connection)
        with translated(), waiting, self.connection:
            added = rows.insert(self.connection, changes.inserts, now_s)
            moved = rows.quarantine(self.connection, changes.refused, now_s)
            gone, given_up = rows.delete(self.connection, changes.deletes)
        self.faces += added - moved - gone
        self.quarantined += moved
        self.aside[rows.UNANSWERED] -= given_up
        return added

    def read(self, read: BacklogRead) -> BacklogPart:
        """Return a part of the backlog; see `Spool.read`."""
        part = BacklogPart([], read.until)
        if read.only_firsts and not self.opened.knows_firsts:
            return part
        weight = 0
        last = read.after
        with translated():
            for sequence, found in rows.select(self.connection, self._device, read):
                if sequence <= last:  # else the same rows would be read for ever
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
        """
        now_s = time.time()
        with translated(), self.connection:
            moves = rows.set_aside(self.connection, faces, bad_rows, now_s)
        self.faces -= moves.gone
        self.aside += moves.came
        return moves.done

    def bound_quarantine(self, most_bytes: int) -> list[str]:
        """Delete the oldest refused faces; see `Spool.bound_quarantine`."""
        with translated(), self.connection:
            gone = rows.bound_quarantine(self.connection, most_bytes)
        self.quarantined -= len(gone)
        return gone

    def expire(self, limit: datetime) -> Removed:
        """Delete some of what was taken before a time; see `Spool.expire`."""
        with translated(), self.connection:
            gone = expiry.expire(self.connection, limit, time.time())
            self._count_anew(gone)
        return gone

    def erase(self, selection: Selection) -> Removed:
        """Delete some of what is to be erased; call again while there is any, and then `scrub`."""
        with translated(), database.overwriting(self.connection), self.connection:
            gone = expiry.erase(self.connection, selection)
            self._count_anew(gone)
        return gone

    def scrub(self) -> int | None:
        """Remove what was deleted from all files; return how many damaged databases were removed for it.

        The database is written anew, because its pages have gaps in which old data stay. That takes time and
        twice its room. If it is too large for that None is returned: try again when most of it was sent.
        """
        # What could be read of these was rescued; what else they hold cannot be told.
        removed = replacement.bound_damaged(self._path.parent, 0)
        with translated():
            size, _, _ = database.size_and_oldest(self.connection)
            if size > MOST_WRITTEN_ANEW_BYTES or not replacement.has_room(self._path, 2 * size):
                return None
            self.connection.execute("VACUUM")
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return None if busy else removed

    def requests(self) -> list[tuple[int, PutBackRequest]]:
        """Return operators' requests to put faces back, with their numbers."""
        with translated():
            return rows.requests(self.connection)

    def find_apart(self, request: PutBackRequest) -> list[RowPlace]:
        """Return the places of the faces that a request means."""
        with translated():
            return rows.find_apart(self.connection, request, self._device)

    def put_back(
        self, places: Sequence[RowPlace], device: str | None, next_sequence: Callable[[], int]
    ) -> tuple[list[str], int]:
        """Put faces back among those that wait; see `Spool.put_back`."""
        with translated(), self.connection:
            ours = device if device == self._device else None
            back, seen = rows.put_back(self.connection, places, ours, next_sequence, time.time())
            self._count_apart()
            self._count_waiting()
        return back, seen

    def answer(self, number: int) -> None:
        """Delete a request that is done."""
        with translated(), self.connection:
            rows.answer(self.connection, number)

    def shrink(self, *, is_tight: bool) -> None:
        """Give some free pages of the database back to the disk; see `Spool.tidy`."""
        for _ in range(_TIGHT_STEPS if is_tight else 1):
            # As a script, because `execute` makes a single step of it, which is one page.
            pages = _VACUUM_PAGES // _TIGHT_STEPS if is_tight else _VACUUM_PAGES
            self.connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            self.bring_log_in()

    def bring_log_in(self) -> None:
        """Move the log into the database, and truncate it."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _find_others(self) -> list[str]:
        condition = database.not_of(self._device)
        with translated():
            found = self.connection.execute(
                f"SELECT DISTINCT CAST(topic AS BLOB) FROM faces WHERE {condition} LIMIT 10"  # noqa: S608 - a name
            ).fetchall()
        topics = [topic.decode(errors="replace")[:200] for (topic,) in found]
        return [topic for topic in topics if rows.IS_FACE_TOPIC.fullmatch(topic)]  # the others are damaged

    def _repair_places(self) -> None:
        """Negate places that no face is given: damage makes any number, and behind some there is no other."""
        wanted = "faces WHERE sequence >= ?"
        with translated(), self.connection:
            if self.connection.execute(f"SELECT 1 FROM {wanted} LIMIT 1", (rows.NO_PLACE,)).fetchone():  # noqa: S608
                self.connection.execute(
                    "UPDATE faces SET sequence = -sequence WHERE sequence >= ?", (rows.NO_PLACE,)
                )

    def _count_anew(self, gone: Removed) -> None:
        if gone:
            self._count_waiting()
            self._count_apart()

    def _count_waiting(self) -> None:
        (self.faces,) = self.connection.execute("SELECT count(*) FROM faces").fetchone()

    def _count_apart(self) -> None:
        (self.quarantined,) = self.connection.execute("SELECT count(*) FROM quarantine").fetchone()
        by_reason = self.connection.execute("SELECT reason, count(*) FROM set_aside GROUP BY reason")
        self.aside = Counter(dict(by_reason.fetchall()))
