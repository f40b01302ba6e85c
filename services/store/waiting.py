from enum import Enum

from services.store.admission import Admitted


class Arrival(Enum):
    """What a face is to those that wait already."""

    NEW = "new"
    COPY = "copy"
    NO_ROOM = "no_room"


class Waiting:
    """The faces that are in memory and not stored yet, each once, within a bound.

    Args:
        max_bytes: bytes of images that may wait. When they are reached a new face is turned away: whoever
            sent it has it still.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def bytes(self) -> int:
        """Bytes of images that wait."""
        return self._bytes

    def add(self, admitted: Admitted) -> Arrival:
        """Take a face in, if it is new and there is room."""
        face = admitted.face
        if face.id in self._sizes:
            return Arrival.COPY
        if self._bytes + len(face.image) > self._max_bytes:
            return Arrival.NO_ROOM
        self._sizes[face.id] = len(face.image)
        self._bytes += len(face.image)
        return Arrival.NEW

    def remove(self, face_id: str) -> None:
        """Let a face go: it is stored."""
        self._bytes -= self._sizes.pop(face_id)
