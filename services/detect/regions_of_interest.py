"""Regions of a camera's picture: where faces are, were just now, may be, and which are hidden by a mask."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.common.masking import Hidden, hidden
from services.common.wire.scope import Mask
from services.common.wire.seen import SeenFace
from services.detect.boxes import NMS_OVERLAP, NO_FACES, Detections, Floats, clip_box, joined, overlaps

MOST_HIDDEN = 0.5
"""The most of a face's box that a mask may hide. A detector may infer a face from what is beside the mask."""


def unmasked(found: Detections, mask: Mask, width: int, height: int) -> Detections:
    """Return the faces of which a mask hides neither the middle nor more than `MOST_HIDDEN`.

    Args:
        found: in pixels of the picture; not modified.
        mask: polygons.
        width: of the picture, in pixels.
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
        return True  # beside the picture: it is never cut
    part = dark[box.y : box.y + box.height, box.x : box.x + box.width]
    return not part[box.height // 2, box.width // 2] and float(part.mean()) <= MOST_HIDDEN


DOUBT_S = 1.0
"""For how long a doubtful place is itself a reason for looks."""
HASTE_S = 1.5
"""Meanwhile each frame is looked at, until the place has not been doubtful for this long, divided by the
number of known faces: most doubtful places in a crowd are of the crowd, which is looked at anyway."""
KNOWN_S = 10.0
"""A place is forgotten this long after it was last doubtful, and is a reason for looks again after that."""
MOST_DOUBTS = 32
"""Doubtful places that are kept for a camera; of more the one seen longest ago is forgotten."""


class DoubtfulPlace(NamedTuple):
    """Where something looks a little like a face.

    Attributes:
        box: left, top, width and height in pixels of the frame.
        since_s: when it was doubtful first.
        seen_s: when it was doubtful last.
    """

    box: tuple[float, float, float, float]
    since_s: float
    seen_s: float


def doubtful_after(
    before: Sequence[DoubtfulPlace], doubtful: Floats, at_s: float
) -> tuple[DoubtfulPlace, ...]:
    """Return the doubtful places after a look.

    Args:
        before: those before it; one that moves by less than its size stays the same.
        doubtful: (N, 4) float32, where something looks a little like a face now, in pixels of the frame.
        at_s: the frame's time.
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
    """Return the doubtful places that are worth another look: (N, 4) float32, in pixels of the frame."""
    return _boxes(_open(places, at_s))


def is_urgent(places: Sequence[DoubtfulPlace], known: Floats, at_s: float) -> bool:
    """Say whether the very next frame is worth a look because of doubtful places.

    Args:
        places: all that are known.
        known: (N, 4) float32, where faces are or were just now, in pixels of the frame.
        at_s: the frame's time.
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
"""For how long a face that was not found again is looked for: faces turn away and are hidden."""
MOST_LOST = 32
"""Lost faces that are kept for a camera; of more the one lost first is forgotten."""


class LostFace(NamedTuple):
    """Where a face was that was not found again: left, top, width and height in pixels of the frame; when."""

    box: tuple[float, float, float, float]
    seen_s: float


@dataclass(frozen=True, slots=True)
class SeenFaces:
    """The faces of a frame.

    Attributes:
        found: in pixels of the frame.
        sights: the same as forward is told of them, in the same order; empty where it is not asked.
    """

    found: Detections = NO_FACES
    sights: tuple[SeenFace, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def selected(self, indices: npt.NDArray[np.intp]) -> Self:
        """Return the faces at these indices, in their order."""
        sights = tuple(self.sights[index] for index in indices) if self.sights else ()
        return type(self)(self.found.selected(indices), sights)

    def with_new(self, new: "SeenFaces", most: int) -> "SeenFaces":
        """Return these faces and those new ones that do not overlap one of them, best first.

        Args:
            new: as found just now.
            most: how many faces to return at most; 0: any number.
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
    """Return the lost faces after a look.

    Each present face is taken for the earlier one nearest to it, however far. Earlier faces that are left
    over are lost, and stay so until a face is found at their place or `AFTER_FACE_S` have passed.

    Args:
        before: the faces of the look before, in pixels of the frame.
        now: the faces of this look.
        lost: those that were lost by then.
        at_s: the time of this look's frame.
        seen_s: the time at which `before` was seen.
    """
    gone = [LostFace(_box(before.boxes[index]), seen_s) for index in _left_over(before.boxes, now.boxes)]
    late = [each for each in (*lost, *gone) if at_s - each.seen_s < AFTER_FACE_S]
    if late and len(now):
        places = np.array([each.box for each in late], np.float32)
        beside = np.flatnonzero(overlaps(places, now.boxes).max(axis=1) == 0)
        late = [late[index] for index in beside]
    return tuple(late[-MOST_LOST:])


def _left_over(before: Floats, now: Floats) -> list[int]:
    """Return the indices of the earlier faces that no present face is taken for."""
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
