"""What the outbox asks of the spool, and what it is answered."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.forward.spool.face import SpooledFace


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
