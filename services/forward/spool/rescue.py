"""What can still be read of a damaged spool, and how its faces are sent while it cannot be written anew."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.common.wire.topics import is_of_device
from services.forward.spool import sqlite_pages
from services.forward.spool.commands import BacklogPart, BacklogRead
from services.forward.spool.database import TABLES, taken_bytes
from services.forward.spool.face import SpooledFace, from_row
from services.forward.spool.rows import AS_BYTES, NO_PLACE, WAITING

MARGIN_BYTES = 2 * 1024 * 1024
"""So much more room is asked for after a try for which there was not enough."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row that was found.

    Attributes:
        table: the table that it is of.
        place: its place there.
        reason: why it is in quarantine or set aside; None if it waits.
        columns: those of a face.
        is_live: whether SQLite can still read it as a row of its table; what is found in the pages
            beside that may have been deleted long ago.
    """

    table: str
    place: int
    reason: bytes | None
    columns: Sequence[object]
    is_live: bool = True


def readable(path: Path, damaged: sqlite3.Connection | None) -> Iterator[FoundRow]:
    """Yield what can be read of a damaged database, first from its tables, then from its pages.

    Args:
        path: the database; the file may be deleted, and the connection still have it.
        damaged: the connection to it, or None if it cannot be opened.
    """
    readings = [_Reading(damaged, table) for table in TABLES] if damaged is not None else []
    for reading in readings:
        yield from reading.rows()
    if not readings or not all(reading.is_whole for reading in readings):
        yield from _salvaged(path)


class Rescue:
    """Sends from a damaged database on a disk that has no room for a new one beside it.

    Nothing is written. What the store has is remembered in memory, until what is left finds room on the disk;
    after a crash before that it is sent again.

    Args:
        path: the database.
        damaged: the connection to it, or None if it cannot be opened.
        device: this device, whose faces can be sent.

    Attributes:
        gone: ids of faces that the store has.
        refused: ids of those that it has refused, each with its reason.
        damaged: as it was given.
    """

    def __init__(self, path: Path, damaged: sqlite3.Connection | None, device: str) -> None:
        self.gone: set[str] = set()
        self.refused: dict[str, str] = {}
        self.damaged = damaged
        self._path = path
        self._device = device
        self._sizes: dict[str, int] = {}  # in whole pages, of every face that was found
        self._is_all_known = False
        self._margin_bytes = 0
        self._faces: Iterator[SpooledFace] = iter(())
        self._epoch: int | None = None

    def waiting(self, before: int) -> int:
        """Return how many faces are left.

        Args:
            before: how many there were according to what was known before the damage was met.
        """
        return len(self._sizes.keys() - self.gone) if self._is_all_known else max(0, before - len(self.gone))

    @cached_property
    def survey(self) -> tuple[int, int]:
        """How many faces can be found, and the last of their places; reads all of them, once."""
        places = [face.sequence for face in self._found()]
        return len(places), max((place for place in places if place < NO_PLACE), default=0)

    def mark_gone(self, face_ids: Iterable[str]) -> None:
        """Remember faces that the store has, but none that are not here, of which there is no bound."""
        known = self._sizes.keys()
        self.gone.update(face_id for face_id in face_ids if face_id in known or not self._is_all_known)

    def read(self, read: BacklogRead) -> BacklogPart:
        """Return a part of the faces that are left, in no strict order; each connection begins anew.

        Places are not reliable after damage: nothing behind `after` counts as read before all is.
        """
        if read.epoch != self._epoch:
            self._epoch = read.epoch
            self._faces = self._found()
        faces: list[SpooledFace] = []
        weight = 0
        for face in self._faces:
            if face.id in self.gone:
                continue
            faces.append(face)
            weight += face.size_bytes
            if weight >= read.most_bytes:
                return BacklogPart(faces, read.after)
        self._is_all_known = True
        return BacklogPart(faces, read.until)

    def wanted_bytes(self) -> int:
        """Return about how much room a new database takes that has only what is left."""
        gone_bytes = sum(self._sizes.get(face_id, 0) for face_id in self.gone)
        all_bytes = taken_bytes(self._path)
        if self._is_all_known:
            all_bytes = min(all_bytes, sum(self._sizes.values()) + self._apart_bytes)
        return max(0, all_bytes - gone_bytes) + self._margin_bytes

    def had_no_room(self) -> None:
        """Note that the room was not enough."""
        self._margin_bytes += MARGIN_BYTES

    @cached_property
    def _apart_bytes(self) -> int:
        total = 0
        for reading in (_Reading(self.damaged, table) for table in TABLES[1:] if self.damaged is not None):
            total += sum(len(row.columns[-1]) for row in reading.rows() if isinstance(row.columns[-1], bytes))
        return total

    def _found(self) -> Iterator[SpooledFace]:
        """Yield each face that waits, once."""
        seen: set[str] = set()
        for row in readable(self._path, self.damaged):
            face = from_row(row.place, row.columns) if row.table == WAITING else None
            if face is None or face.id in seen:
                continue
            seen.add(face.id)
            self._sizes[face.id] = -(-face.size_bytes // sqlite_pages.PAGE_BYTES) * sqlite_pages.PAGE_BYTES
            if is_of_device(face.message.topic, self._device):
                yield face


class _Reading:
    """What SQLite can still read of a table, from both ends towards the damage."""

    def __init__(self, damaged: sqlite3.Connection, table: str) -> None:
        self._damaged = damaged
        self._table = table
        self._found: set[int] = set()
        self.is_whole = True

    def rows(self) -> Iterator[FoundRow]:
        yield from self._read("ASC")
        if not self.is_whole:
            yield from self._read("DESC")

    def _read(self, order: str) -> Iterator[FoundRow]:
        reason = "NULL" if self._table == WAITING else "CAST(reason AS BLOB)"
        query = f"SELECT rowid, {reason}, {AS_BYTES} FROM {self._table} ORDER BY rowid {order}"  # noqa: S608 - constants
        try:
            for place, why, *columns in self._damaged.execute(query):
                if place in self._found:
                    if order == "DESC":
                        return
                    self.is_whole = False  # the pages lead in a circle: others may be left out
                    continue
                self._found.add(place)
                yield FoundRow(self._table, place, why, columns)
        except sqlite3.ProgrammingError:
            raise  # the connection is closed, which is no damage
        except sqlite3.DatabaseError:
            self.is_whole = False


def _salvaged(path: Path) -> Iterator[FoundRow]:
    """Yield the records in the pages, deleted ones among them; their shape tells their table."""
    for place, values in sqlite_pages.records(path):
        match values:
            case [None, face_id, _, topic, content_type, attributes, payload]:
                columns = [face_id, topic, content_type, attributes, payload]
                yield FoundRow(WAITING, place, None, columns, is_live=False)
            case [bytes() as face_id, _, bytes() as reason, topic, content_type, attributes, payload]:
                columns = [face_id, topic, content_type, attributes, payload]
                yield FoundRow("quarantine", place, reason, columns, is_live=False)
            case [None, face_id, _, bytes() as reason, topic, content_type, attributes, payload]:
                columns = [face_id, topic, content_type, attributes, payload]
                yield FoundRow("set_aside", place, reason, columns, is_live=False)
