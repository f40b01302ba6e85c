"""Faces that wait in memory to be sent, and which of them goes first."""

from collections import OrderedDict
from collections.abc import Container

from services.forward.spool.face import SpooledFace


class Queue:
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
