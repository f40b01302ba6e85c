"""Moves that can wait: of faces that are not sent any more, and are safe where they are."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.forward.orders import chunks


@dataclass(slots=True)
class Errands:
    """Faces and rows that are to be set aside when there is time.

    To move one costs more than to find it. Whoever finds a thousand among good faces lets those go first.

    Attributes:
        faces: ids of faces, with the reason.
        rows: places of rows that hold no face to be sent, with the reason.
    """

    faces: dict[str, str] = field(default_factory=dict)
    rows: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.faces) + len(self.rows)

    @property
    def reasons(self) -> Counter[str]:
        """How many there are, by reason."""
        return Counter(self.faces.values()) + Counter(self.rows.values())

    def forget(self, face_ids: Iterable[str]) -> None:
        """Leave faces where they are: the store has said what became of them."""
        for face_id in face_ids:
            self.faces.pop(face_id, None)

    def some(self, most: int) -> "Errands":
        """Return a few of them, which stay until they are done."""
        return Errands(
            dict(next(chunks(self.faces.items(), most), [])), dict(next(chunks(self.rows.items(), most), []))
        )

    def done(self, some: "Errands") -> None:
        """Cross off what was done."""
        self.forget(some.faces)
        for sequence in some.rows:
            self.rows.pop(sequence, None)
