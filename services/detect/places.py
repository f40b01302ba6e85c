"""Where in a camera's picture somebody is, and where somebody was just now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.common.wire.sights import Sight
from services.detect.boxes import NMS_OVERLAP, NO_FACES, Detections, Floats, joined, overlaps

AFTER_FACE_S = 3.0
"""For so long is somebody looked for who was not found again: faces are turned and hidden."""
MOST_MISSED = 32
"""Of one camera; of more the one that was missed first is forgotten."""


class Missed(NamedTuple):
    """A place where somebody was: left, top, width and height in pixels of the frame, and until when."""

    box: tuple[float, float, float, float]
    seen_s: float


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of a picture.

    Attributes:
        found: in pixels of the frame.
        sights: the same for forward, in the same order, where it is asked; else none.
    """

    found: Detections = NO_FACES
    sights: tuple[Sight, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def selected(self, indices: npt.NDArray[np.intp]) -> Self:
        """Return the faces at these indices, in their order."""
        sights = tuple(self.sights[index] for index in indices) if self.sights else ()
        return type(self)(self.found.selected(indices), sights)

    def with_new(self, new: "Faces", most: int) -> "Faces":
        """Return these faces and new ones, best first, of which none is one of these again.

        Args:
            new: as found just now.
            most: how many faces there are at most; 0: any number.
        """
        if len(self) and len(new):
            is_known = (overlaps(new.found.boxes, self.found.boxes) > NMS_OVERLAP).any(axis=1)
            new = new.selected(np.flatnonzero(~is_known))
        every = Faces(joined([self.found, new.found]), (*self.sights, *new.sights))
        scores = every.found.scores
        if scores is None:
            return every
        return every.selected(np.argsort(-scores, kind="stable")[: most or None])


def missed_after(
    before: Detections, now: Detections, missed: Sequence[Missed], at_s: float, seen_s: float
) -> tuple[Missed, ...]:
    """Return where somebody was who is not found any more.

    Each face of now is the one of before that is nearest to it, however far; who is left over is missed, and
    so are those who were, until somebody is found there or it is too late.

    Args:
        before: those who were there at the look before.
        now: those who are there.
        missed: those who were missed by then.
        at_s: when it is now.
        seen_s: when those before were seen.
    """
    gone = [Missed(_box(before.boxes[index]), seen_s) for index in _left_over(before.boxes, now.boxes)]
    late = [each for each in (*missed, *gone) if at_s - each.seen_s < AFTER_FACE_S]
    if late and len(now):
        places = np.array([each.box for each in late], np.float32)
        beside = np.flatnonzero(overlaps(places, now.boxes).max(axis=1) == 0)
        late = [late[index] for index in beside]
    return tuple(late[-MOST_MISSED:])


def _left_over(before: Floats, now: Floats) -> list[int]:
    """Return the indices of those before who are nobody now."""
    left = dict.fromkeys(range(len(before)))
    if len(now) >= len(before):
        return []
    centres, other = before[:, :2] + before[:, 2:] / 2, now[:, :2] + now[:, 2:] / 2
    distances = np.linalg.norm(centres[:, None] - other[None, :], axis=2)
    taken: set[int] = set()
    for pair in np.argsort(distances, axis=None, kind="stable").tolist():
        index, to = divmod(pair, len(now))
        if index in left and to not in taken:
            del left[index]
            taken.add(to)
    return list(left)


def _box(box: Floats) -> tuple[float, float, float, float]:
    x, y, width, height = box.tolist()
    return x, y, width, height
