"""What the spool's writer is told to do."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from services.common.erasure.entries import Entry
from services.forward.backlog import BacklogRead
from services.forward.rows import Place, Request
from services.forward.spool import Changes
from services.forward.spooled import SpooledFace

T = TypeVar("T")


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

    request: Request
    number: int | None = None
    most: int | None = None
    places: list[Place] | None = None


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


Order = SpooledFace | Delete | Quarantine | SetAside | PutBack | BacklogRead | Expire | Erase


@dataclass(slots=True)
class Batch:
    """What is to be done in one commit, or with so little room, in several."""

    inserts: list[SpooledFace] = field(default_factory=list)
    deletes: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inserts or self.deletes or self.refused)

    def take_over(self, other: "Batch") -> None:
        """Add what another one was to let go or to move."""
        self.deletes |= other.deletes
        self.refused |= other.refused

    def pieces(self, most: int) -> "list[Batch]":
        """Return what it lets go in parts of so many faces; what it moves one by one, for that takes room."""
        parts = [Batch(deletes=dict.fromkeys(some)) for some in chunks(self.deletes, most)]
        return parts + [Batch(refused=dict(some)) for some in chunks(self.refused.items(), 1)]

    def changes(self, inserts: list[SpooledFace]) -> Changes:
        """Return it as one batch of changes, with these faces to be inserted."""
        return Changes(inserts, list(self.deletes), self.refused)


def chunks(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield items in lists of so many."""
    left = iter(items)
    while some := list(itertools.islice(left, most)):
        yield some
