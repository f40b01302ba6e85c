"""Faces that wait in memory: to be sent, and which of them goes first; under way, for their receipt."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass

from services.forward.congestion import SendSample
from services.forward.spool.face import SpooledFace


class FaceQueue:
    """Faces in order, each once, with their weight: what may be a first picture before the later ones."""

    def __init__(self) -> None:
        self._firsts = _Line()
        self._later = _Line()

    def __contains__(self, face_id: str) -> bool:
        return face_id in self._firsts.faces or face_id in self._later.faces

    def __bool__(self) -> bool:
        return bool(self._firsts.faces or self._later.faces)

    @property
    def bytes(self) -> int:
        """What all of them weigh."""
        return self._firsts.bytes + self._later.bytes

    @property
    def bytes_of_firsts(self) -> int:
        """What those weigh that go first."""
        return self._firsts.bytes

    def add(self, face: SpooledFace) -> None:
        """Put a face last of its kind, if it does not wait already."""
        if face.id not in self:
            (self._later if face.is_later else self._firsts).add(face)

    def pop(self) -> SpooledFace:
        """Take out the first face."""
        line = self._firsts if self._firsts.faces else self._later
        return line.take(next(iter(line.faces)))

    def pop_unlike(self, topics: Container[str]) -> SpooledFace:
        """Take out the first face of another topic than these; the first of all if there is none."""
        for line in (self._firsts, self._later):
            for face_id, face in line.faces.items():
                if face.message.topic not in topics:
                    return line.take(face_id)
        return self.pop()

    def last_later(self) -> SpooledFace | None:
        """Return the face that would go last, if it is nobody's first picture."""
        return next(reversed(self._later.faces.values()), None)

    def discard(self, face_id: str) -> None:
        """Take out a face if it waits."""
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
        attempts: how often it was sent in this connection.
        asked_s: since when the broker has it.
        due_s: when it is sent again; infinite until the broker has it, for TCP repeats on its own.
        passed_over: how often others were receipted while it was waited for.
        is_unheard: whether the broker has said that nobody listened.
        is_put_off: whether it was due, and a receipt seemed to be near.
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
    """Faces under way, with their weight, and when each is due to be sent again.

    Attributes:
        bytes: what all of them weigh.
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
        """Yield them as they departed, the first one first."""
        return iter(self._flights.values())

    def get(self, face_id: str) -> Flight | None:
        """Return the flight of a face, or None if it is not under way."""
        return self._flights.get(face_id)

    def add(self, flight: Flight) -> None:
        """Note that a face departs; it is not due before the broker has it."""
        self._flights[flight.face.id] = flight
        self.bytes += flight.face.size_bytes

    def take(self, face_id: str) -> Flight | None:
        """Take out a face, and return its flight, or None if it is not under way."""
        flight = self._flights.pop(face_id, None)
        if flight is not None:
            self.bytes -= flight.face.size_bytes
        return flight

    def set_due(self, flight: Flight, due_s: float) -> None:
        """Have a flight be due at this time, and at no other."""
        flight.due_s = due_s
        heapq.heappush(self._timers, (due_s, flight.face.id))

    def next_due_s(self) -> float:
        """Return when to ask for what is due; infinite if nothing ever is, and it may be in vain."""
        return self._timers[0][0] if self._timers else math.inf

    def pop_due(self, now_s: float) -> Flight | None:
        """Return a flight that is due, and that will not be again until it is said; None if there is none."""
        while self._timers and self._timers[0][0] <= now_s:
            due_s, face_id = heapq.heappop(self._timers)
            flight = self._flights.get(face_id)
            # A timer outlives its face, or an earlier answer of the broker; only the flight knows.
            if flight is not None and flight.due_s == due_s:
                flight.due_s = math.inf
                return flight
        return None
