"""What the spool's writer is told to do, and answers; and moves that can wait."""

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from services.common.erasure.entries import Entry
from services.common.erasure.reports import Report
from services.forward.spool.face import SpooledFace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Faces of which it is known that the broker takes none, so that they need not be read.

    Attributes:
        most_bytes: an image that is larger fits into no packet.
        topics: the broker refuses them, each with its reason.
    """

    most_bytes: int
    topics: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BacklogRead:
    """A part of the spool to read: faces after one sequence up to and with another.

    Attributes:
        epoch: the connection that asks; the answer to an earlier one is ignored.
        after: where the last read ended.
        until: the newest face that belongs to the backlog.
        most_bytes: enough for one read.
        only_firsts: leave out what is nobody's first picture, where the spool can do so without a look at
            each of those.
        unsendable: faces to leave out of it.
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
        faces: in order.
        until: the place up to which it was looked at.
        bad: places of rows that hold no face to be sent, with the reason.
    """

    faces: list[SpooledFace]
    until: int
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutBackRequest:
    """Which of the faces that are apart are to go back among those that wait; nothing said means any.

    Attributes:
        reason: only those that are apart for it.
        id: only this face.
        of: only this device's.
        device: make them faces of this device, with new ids, for an id names its device.
        most_bytes: only those whose image is no larger.
    """

    reason: str | None = None
    id: str | None = None
    of: str | None = None
    device: str | None = None
    most_bytes: int | None = None


class RowPlace(NamedTuple):
    """Where a face is that is apart, or waits and cannot go: its table and its row."""

    table: str
    rowid: int


@dataclass(frozen=True, slots=True)
class Delete:
    """The store has this face."""

    face_id: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The store will never take this face."""

    face_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """This face cannot be delivered as things are."""

    face_id: str
    reason: str


@dataclass(slots=True)
class PutBack:
    """Faces that are apart are to go back among those that wait.

    Attributes:
        request: which.
        number: of a person's request, to be answered when all are back.
        most: how many of them, at most; nothing for all.
        places: where those are that are still to go; found when their turn comes.
    """

    request: PutBackRequest
    number: int | None = None
    most: int | None = None
    places: list[RowPlace] | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """What was taken before this time is to go, wherever it is."""

    limit: datetime


@dataclass(slots=True)
class Erase:
    """What an order takes is to go for good, wherever it is.

    Attributes:
        order: the order.
        is_again: it was carried out before, and a database was replaced since.
        gone: how many went so far, by where they were.
    """

    order: Entry
    is_again: bool = False
    gone: Counter[str] = field(default_factory=Counter)


SpoolCommand = SpooledFace | Delete | Quarantine | SetAside | PutBack | BacklogRead | Expire | Erase


class InsertListener(Protocol):
    """Hands over faces, and is told what became of them, in the order in which it did."""

    def written(self, faces: list[SpooledFace], added: int) -> None:
        """Take note of faces on disk, or in the store by now; `added` of them were not held before."""

    def turned_away(self, faces: list[SpooledFace]) -> None:
        """Take note of faces that are not, because the disk takes none."""


class BacklogListener(Protocol):
    """Sends what the spool holds, and is told what it asked for and what has changed there."""

    def backlog_read(self, read: BacklogRead, part: BacklogPart) -> None:
        """Take a part of the backlog."""

    def put_back(self, last_sequence: int) -> None:
        """Take note of faces that have come back among those that wait, up to this place."""

    def tried(self, reason: str, ids: list[str]) -> None:
        """Take note of some of them: they show whether all that are set aside for this reason may go back."""

    def expired(self, ids: list[str]) -> None:
        """Take note of faces that are gone, because they are too old or were erased."""

    def erased(self, report: Report) -> None:
        """Take note of an order to erase that was carried out."""


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


@dataclass(slots=True)
class WriteBatch:
    """What is to be done in one commit, or with so little room, in several."""

    inserts: list[SpooledFace] = field(default_factory=list)
    deletes: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inserts or self.deletes or self.refused)

    def take_over(self, other: "WriteBatch") -> None:
        """Add what another one was to let go or to move."""
        self.deletes |= other.deletes
        self.refused |= other.refused

    def pieces(self, most: int) -> "list[WriteBatch]":
        """Return what it lets go in parts of so many faces; what it moves one by one, for that takes room."""
        parts = [WriteBatch(deletes=dict.fromkeys(some)) for some in chunks(self.deletes, most)]
        return parts + [WriteBatch(refused=dict(some)) for some in chunks(self.refused.items(), 1)]

    def changes(self, inserts: list[SpooledFace]) -> Changes:
        """Return it as one batch of changes, with these faces to be inserted."""
        return Changes(inserts, list(self.deletes), self.refused)


def chunks(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield items in lists of so many."""
    left = iter(items)
    while some := list(itertools.islice(left, most)):
        yield some


class DeferredMoves:
    """Faces and rows that are to be set aside when there is time.

    To move one costs more than to find it. Whoever finds a thousand among good faces lets those go first.

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
        """Note a face by its id."""
        self.cross_off([face_id])
        self._faces[face_id] = reason
        self.reasons[reason] += 1

    def add_rows(self, rows: Mapping[int, str]) -> Mapping[int, str]:
        """Note rows that hold no face to be sent, by their places; return those that are new."""
        new = {place: reason for place, reason in rows.items() if place not in self._rows}
        self._rows |= new
        self.reasons.update(new.values())
        return new

    def some(self, most: int) -> tuple[dict[str, str], dict[int, str]]:
        """Return a few faces and a few rows, which stay until they are done."""
        faces = dict(next(chunks(self._faces.items(), most), []))
        return faces, dict(next(chunks(self._rows.items(), most), []))

    def cross_off(self, done: Iterable[str | int]) -> None:
        """Forget what was done, or need not be any more: ids of faces, places of rows."""
        for one in done:
            reason = self._faces.pop(one, None) if isinstance(one, str) else self._rows.pop(one, None)
            if reason is not None:
                self.reasons[reason] -= 1
