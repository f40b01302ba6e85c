"""Places in a camera's picture: where somebody is, was just now, may be, and where nobody looks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.common.shading import Hidden, hidden
from services.common.wire.scope import Mask
from services.common.wire.sights import Sight
from services.detect.boxes import NMS_OVERLAP, NO_FACES, Detections, Floats, clip_box, joined, overlaps

MOST_HIDDEN = 0.5
"""Of a face's box. What is hidden is black, but a detector may guess at a face from what stands beside it."""


def unmasked(found: Detections, mask: Mask, width: int, height: int) -> Detections:
    """Return the faces that a mask does not hide: neither their middle nor more than half of them.

    Args:
        found: in pixels of the picture.
        mask: polygons.
        width: of the picture.
        height: likewise.
    """
    if not mask or not len(found):
        return found
    dark = hidden(mask, width, height)
    shown = [index for index in range(len(found)) if _is_shown(found, index, dark)]
    return found.selected(np.array(shown, np.intp))


def _is_shown(found: Detections, index: int, dark: Hidden) -> bool:
    height, width = dark.shape
    box = clip_box(found.boxes[index], width, height)
    if box is None:
        return True  # beside the picture, and not cut at all
    part = dark[box.y : box.y + box.height, box.x : box.x + box.width]
    return not part[box.height // 2, box.width // 2] and float(part.mean()) <= MOST_HIDDEN


DOUBT_S = 1.0
"""For so long a place is looked at for its own sake."""
HASTE_S = 1.5
"""And each frame, until it has not been doubtful for so long, or for less the more are known: most of what is
doubtful in a crowd is the crowd, which is looked at anyway."""
KNOWN_S = 10.0
"""So long after it was doubtful last a place is forgotten, and worth as much again."""
MOST_DOUBTS = 32
"""Of one camera; of more the one that was seen least lately is forgotten."""


class DoubtfulPlace(NamedTuple):
    """A place, left, top, width and height in pixels of the frame; when it was doubtful first, and last."""

    box: tuple[float, float, float, float]
    since_s: float
    seen_s: float


def doubtful_after(
    before: Sequence[DoubtfulPlace], doubtful: Floats, at_s: float
) -> tuple[DoubtfulPlace, ...]:
    """Return the doubts after a look.

    Args:
        before: those that there were; one that moves by less than its size stays the same.
        doubtful: (N, 4), where something looks a little like a face now, in pixels of the frame.
        at_s: when that is.
    """
    if not len(doubtful) and not before:
        return ()
    is_same = overlaps(doubtful, _boxes(before)) > NMS_OVERLAP
    now = [
        _doubt(box, list(itertools.compress(before, same)), at_s)
        for box, same in zip(doubtful, is_same.tolist(), strict=True)
    ]
    others = itertools.compress(before, np.logical_not(is_same.any(axis=0)).tolist())
    lately = [each for each in others if at_s - each.seen_s < KNOWN_S]
    return (*now, *sorted(lately, key=lambda each: -each.seen_s))[:MOST_DOUBTS]


def open_places(places: Sequence[DoubtfulPlace], at_s: float) -> Floats:
    """Return where another look is worth its time: (N, 4), in pixels of the frame."""
    return _boxes(_open(places, at_s))


def is_urgent(places: Sequence[DoubtfulPlace], known: Floats, at_s: float) -> bool:
    """Say whether the very next frame is worth a look for what is doubtful.

    Args:
        places: those that there are.
        known: (N, 4), where somebody is, or was just now, in pixels of the frame.
        at_s: when it is now.
    """
    haste_s = HASTE_S / max(1, len(known))
    recent = _boxes([each for each in _open(places, at_s) if at_s - each.seen_s < haste_s])
    # What touches a face is mostly that face once more, or its ear, hand or collar.
    return not (overlaps(recent, known) > 0).any(axis=1).all()


def _open(places: Sequence[DoubtfulPlace], at_s: float) -> list[DoubtfulPlace]:
    return [each for each in places if at_s - each.since_s < DOUBT_S]


def _doubt(box: Floats, before: Sequence[DoubtfulPlace], at_s: float) -> DoubtfulPlace:
    x, y, width, height = box.tolist()
    return DoubtfulPlace((x, y, width, height), min((each.since_s for each in before), default=at_s), at_s)


def _boxes(places: Sequence[DoubtfulPlace]) -> Floats:
    return np.array([each.box for each in places], np.float32).reshape(-1, 4)


AFTER_FACE_S = 3.0
"""For so long is somebody looked for who was not found again: faces are turned and hidden."""
MOST_LOST = 32
"""Of one camera; of more the one that was missed first is forgotten."""


class LostFace(NamedTuple):
    """A place where somebody was: left, top, width and height in pixels of the frame, and until when."""

    box: tuple[float, float, float, float]
    seen_s: float


@dataclass(frozen=True, slots=True)
class SeenFaces:
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

    def with_new(self, new: "SeenFaces", most: int) -> "SeenFaces":
        """Return these faces and new ones, best first, of which none is one of these again.

        Args:
            new: as found just now.
            most: how many faces there are at most; 0: any number.
        """
        if len(self) and len(new):
            is_known = (overlaps(new.found.boxes, self.found.boxes) > NMS_OVERLAP).any(axis=1)
            new = new.selected(np.flatnonzero(~is_known))
        every = SeenFaces(joined([self.found, new.found]), (*self.sights, *new.sights))
        scores = every.found.scores
        if scores is None:
            return every
        return every.selected(np.argsort(-scores, kind="stable")[: most or None])


def lost_after(
    before: Detections, now: Detections, lost: Sequence[LostFace], at_s: float, seen_s: float
) -> tuple[LostFace, ...]:
    """Return where somebody was who is not found any more.

    Each face of now is the one of before that is nearest to it, however far; who is left over is missed, and
    so are those who were, until somebody is found there or it is too late.

    Args:
        before: those who were there at the look before.
        now: those who are there.
        lost: those who were missed by then.
        at_s: when it is now.
        seen_s: when those before were seen.
    """
    gone = [LostFace(_box(before.boxes[index]), seen_s) for index in _left_over(before.boxes, now.boxes)]
    late = [each for each in (*lost, *gone) if at_s - each.seen_s < AFTER_FACE_S]
    if late and len(now):
        places = np.array([each.box for each in late], np.float32)
        beside = np.flatnonzero(overlaps(places, now.boxes).max(axis=1) == 0)
        late = [late[index] for index in beside]
    return tuple(late[-MOST_LOST:])


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
