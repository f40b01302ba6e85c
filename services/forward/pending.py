"""Faces in memory: those that wait to be sent, and those in flight, which wait for their receipt."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass

from services.forward.congestion import SendSample
from services.forward.spool.face import SpooledFace


class FaceQueue:
    """Faces in the order of sending, each once: what may be a first picture before the later ones.

    Not bounded here: the outbox bounds what it adds by `FRESH_MAX_BYTES` and `BACKLOG_AHEAD_BYTES`.
    """

    def __init__(self) -> None:
        self._firsts = _Line()
        self._later = _Line()

    def __contains__(self, face_id: str) -> bool:
        return face_id in self._firsts.faces or face_id in self._later.faces

    def __bool__(self) -> bool:
        return bool(self._firsts.faces or self._later.faces)

    @property
    def bytes(self) -> int:
        """The bytes of all of them."""
        return self._firsts.bytes + self._later.bytes

    @property
    def bytes_of_firsts(self) -> int:
        """The bytes of those that may be first pictures."""
        return self._firsts.bytes

    def add(self, face: SpooledFace) -> None:
        """Put a face behind the others of its kind, if it is not queued already."""
        if face.id not in self:
            (self._later if face.is_later else self._firsts).add(face)

    def pop(self) -> SpooledFace:
        """Take out the first face.

        Raises:
            StopIteration: there is none.
        """
        line = self._firsts if self._firsts.faces else self._later
        return line.take(next(iter(line.faces)))

    def pop_unlike(self, topics: Container[str]) -> SpooledFace:
        """Take out the first face of a topic that is not one of these; the first of all if there is none."""
        for line in (self._firsts, self._later):
            for face_id, face in line.faces.items():
                if face.message.topic not in topics:
                    return line.take(face_id)
        return self.pop()

    def last_later(self) -> SpooledFace | None:
        """Return the face that would be sent last if it is certainly no first picture, else None."""
        return next(reversed(self._later.faces.values()), None)

    def discard(self, face_id: str) -> None:
        """Take out a face if it is queued."""
        for line in (self._firsts, self._later):
            if face_id in line.faces:
                line.take(face_id)


class _Line:
    """Faces of one kind."""

    def __init__(self) -> None:
        self.faces: OrderedDict[str, SpooledFace] = OrderedDict()
        self.bytes = 0

    def add(self, face: SpooledFace) -> None:
        self.faces[face.id] = face
        self.bytes += face.size_bytes

    def take(self, face_id: str) -> SpooledFace:
        face = self.faces.pop(face_id)
        self.bytes -= face.size_bytes
        return face


@dataclass(slots=True)
class Flight:
    """A face that was sent and has no receipt yet.

    Attributes:
        face: what was sent.
        sample: what the window needs to learn from its receipt.
        attempts: how many times it was sent over this connection.
        asked_s: when the broker acknowledged it; minus infinity before.
        due_s: when it is sent again; infinite until the broker has it, because TCP repeats on its own.
        passed_over: how many times it was due while others were receipted.
        is_unheard: whether the broker has said that it has no subscriber.
        is_put_off: whether it was due, and was put off because its receipt seemed near.
    """

    face: SpooledFace
    sample: SendSample
    attempts: int = 1
    asked_s: float = -math.inf
    due_s: float = math.inf
    passed_over: int = 0
    is_unheard: bool = False
    is_put_off: bool = False


class Flights:
    """The faces in flight, and when each is due to be sent again.

    Attributes:
        bytes: of all of them.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._flights: dict[str, Flight] = {}
        self._timers: list[tuple[float, str]] = []

    def __contains__(self, face_id: str) -> bool:
        return face_id in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        """Yield them in the order in which they were sent."""
        return iter(self._flights.values())

    def get(self, face_id: str) -> Flight | None:
        """Return the flight of a face, or None if it is not in flight."""
        return self._flights.get(face_id)

    def add(self, flight: Flight) -> None:
        """Note a face that is sent; it is not due before the broker has it."""
        self._flights[flight.face.id] = flight
        self.bytes += flight.face.size_bytes

    def take(self, face_id: str) -> Flight | None:
        """Take out a face; return its flight, or None if it is not in flight."""
        flight = self._flights.pop(face_id, None)
        if flight is not None:
            self.bytes -= flight.face.size_bytes
        return flight

    def set_due(self, flight: Flight, due_s: float) -> None:
        """Set when a flight is due; an earlier setting is void."""
        flight.due_s = due_s
        heapq.heappush(self._timers, (due_s, flight.face.id))

    def next_due_s(self) -> float:
        """Return when to call `pop_due` again; infinite for never. Nothing need be due then."""
        return self._timers[0][0] if self._timers else math.inf

    def pop_due(self, now_s: float) -> Flight | None:
        """Return a flight that is due, or None; it is not due again before `set_due`."""
        while self._timers and self._timers[0][0] <= now_s:
            due_s, face_id = heapq.heappop(self._timers)
            flight = self._flights.get(face_id)
            # A timer stays when its face is gone or due at another time; the flight has the right one.
            if flight is not None and flight.due_s == due_s:
                flight.due_s = math.inf
                return flight
        return None
