"""Moves that can wait: of faces that are not sent any more, and are safe where they are."""

from collections import Counter
from collections.abc import Iterable, Mapping

from services.forward.orders import chunks


class Errands:
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
