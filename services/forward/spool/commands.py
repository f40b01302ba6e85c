"""The commands to the spool's writer, and the listeners that are told of their outcome."""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from services.common.erasure.entries import LogEntry
from services.common.erasure.reports import Report
from services.forward.spool.face import SpooledFace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Faces that the broker does not take, so that they need not be read.

    Attributes:
        most_bytes: larger images fit into no packet.
        topics: those that the broker refuses, each with its reason.
    """

    most_bytes: int
    topics: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BacklogRead:
    """A part of the spool to read: the faces after one sequence, up to and including another.

    Attributes:
        epoch: the connection that asks; the answer to an earlier one is ignored.
        after: where the last read ended.
        until: the newest face that belongs to the backlog.
        most_bytes: enough for one read.
        only_firsts: leave out what is certainly no first picture, if the spool has an index of those.
        unsendable: faces to leave out.
    """

    epoch: int
    after: int
    until: int
    most_bytes: int
    only_firsts: bool = False
    unsendable: Unsendable = Unsendable(sys.maxsize, MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class BacklogPart:
    """What was read of a spool.

    Attributes:
        faces: in the order of their places.
        until: the place up to which rows were looked at.
        bad: places of rows that hold no face to be sent, each with its reason.
    """

    faces: list[SpooledFace]
    until: int
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutBackRequest:
    """Which of the faces that are set aside or in quarantine are put back; None means any.

    Attributes:
        reason: only those with this reason.
        id: only this face.
        of: only those of this device.
        device: make them faces of this device, with new ids, because an id depends on its device.
        most_bytes: only those whose image is no larger.
    """

    reason: str | None = None
    id: str | None = None
    of: str | None = None
    device: str | None = None
    most_bytes: int | None = None


class RowPlace(NamedTuple):
    """Where a face is that may be put back: its table and its row."""

    table: str
    rowid: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete this face: the store has it."""

    face_id: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Move this face into quarantine: the store will never take it."""

    face_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """Set this face aside: it cannot be delivered at present."""

    face_id: str
    reason: str


@dataclass(slots=True)
class PutBack:
    """Put faces back among those that wait.

    Attributes:
        request: which faces.
        number: of an operator's request (see `faceferry spool`), which is deleted when all are back; or None.
        most: how many at most; None for all.
        places: those that are left; None until they are looked up.
    """

    request: PutBackRequest
    number: int | None = None
    most: int | None = None
    places: list[RowPlace] | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """Delete what was taken before this time, in all tables."""

    limit: datetime


@dataclass(slots=True)
class Erase:
    """Delete what an order to erase selects, in all tables, so that it cannot be recovered.

    Attributes:
        order: the order.
        is_again: whether it was carried out before, and the database was replaced since.
        gone: how many were deleted so far, by table.
    """

    order: LogEntry
    is_again: bool = False
    gone: Counter[str] = field(default_factory=Counter)


SpoolCommand = SpooledFace | Delete | Quarantine | SetAside | PutBack | BacklogRead | Expire | Erase


class InsertListener(Protocol):
    """Is told what became of the faces that it handed over, in the event loop and in their order."""

    def written(self, faces: list[SpooledFace], added: int) -> None:
        """Take note of faces on disk, or in the store by now; `added` of them were not held before."""

    def turned_away(self, faces: list[SpooledFace]) -> None:
        """Take note of faces that are not held, because the disk takes none."""


class BacklogListener(Protocol):
    """Is told what the spool holds and what has changed there, in the event loop."""

    def backlog_read(self, read: BacklogRead, part: BacklogPart) -> None:
        """Take the part of the backlog that was asked for."""

    def put_back(self, last_sequence: int) -> None:
        """Take note of faces that were put back, with places up to this one."""

    def tried(self, reason: str, ids: list[str]) -> None:
        """Take note of faces that were put back to find out whether all of this reason may be."""

    def expired(self, ids: list[str]) -> None:
        """Take note of faces that were deleted because they are too old, or erased."""

    def erased(self, report: Report) -> None:
        """Take note of an order to erase that was carried out."""


@dataclass(frozen=True, slots=True)
class Changes:
    """One batch of changes to a spool.

    Attributes:
        inserts: new faces; if one is held already its row is repaired, should it be damaged.
        deletes: ids of faces to delete.
        refused: ids of faces to move into quarantine, each with its reason.
    """

    inserts: Sequence[SpooledFace] = ()
    deletes: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class WriteBatch:
    """What is to be done in one commit, or on a full disk in several (see `Changes`)."""

    inserts: list[SpooledFace] = field(default_factory=list)
    deletes: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inserts or self.deletes or self.refused)

    def take_over(self, other: "WriteBatch") -> None:
        """Add the deletes and the refused of another batch."""
        self.deletes |= other.deletes
        self.refused |= other.refused

    def pieces(self, most: int) -> "list[WriteBatch]":
        """Return its deletes in parts of so many, and its moves one by one, because those take room."""
        parts = [WriteBatch(deletes=dict.fromkeys(some)) for some in chunks(self.deletes, most)]
        return parts + [WriteBatch(refused=dict(some)) for some in chunks(self.refused.items(), 1)]

    def changes(self, inserts: list[SpooledFace]) -> Changes:
        """Return its deletes and moves as changes, with these faces as inserts."""
        return Changes(inserts, list(self.deletes), self.refused)


def chunks(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield items in lists of so many."""
    left = iter(items)
    while some := list(itertools.islice(left, most)):
        yield some


class DeferredMoves:
    """Faces and rows that are to be set aside when there is time.

    To move one costs more than to find it: where there are a thousand among good faces, those are sent first.

    Attributes:
        reasons: how many there are, by reason.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._faces: dict[str, str] = {}
        self._rows: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._faces) + len(self._rows)

    def add_face(self, face_id: str, reason: str) -> None:
        """Add a face by its id."""
        self.cross_off([face_id])
        self._faces[face_id] = reason
        self.reasons[reason] += 1

    def add_rows(self, rows: Mapping[int, str]) -> Mapping[int, str]:
        """Add rows that hold no face to be sent, by their places; return those that are new."""
        new = {place: reason for place, reason in rows.items() if place not in self._rows}
        self._rows |= new
        self.reasons.update(new.values())
        return new

    def some(self, most: int) -> tuple[dict[str, str], dict[int, str]]:
        """Return up to `most` faces and rows each; they stay until they are crossed off."""
        faces = dict(next(chunks(self._faces.items(), most), []))
        return faces, dict(next(chunks(self._rows.items(), most), []))

    def cross_off(self, done: Iterable[str | int]) -> None:
        """Remove what was done, or need not be done any more: ids of faces, places of rows."""
        for one in done:
            reason = self._faces.pop(one, None) if isinstance(one, str) else self._rows.pop(one, None)
            if reason is not None:
                self.reasons[reason] -= 1
