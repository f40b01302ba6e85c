"""Places that look a little like a face: for a moment each is worth a look, and often one at every frame.

A face that is turned, small or blurred is found in some of its frames only, and looks a little like one in
the others. Whatever looks so for longer and never is one (a poster, a clock) is left alone.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.detect.boxes import NMS_OVERLAP, Floats, overlaps

DOUBT_S = 1.0
"""For so long a place is looked at for its own sake."""
HASTE_S = 1.5
"""And each frame, until it has not been doubtful for so long, or for less the more are known: most of what is
doubtful in a crowd is the crowd, which is looked at anyway."""
KNOWN_S = 10.0
"""So long after it was doubtful last a place is forgotten, and worth as much again."""
MOST_DOUBTS = 32
"""Of one camera; of more the one that was seen least lately is forgotten."""


class Doubt(NamedTuple):
    """A place, left, top, width and height in pixels of the frame; when it was doubtful first, and last."""

    box: tuple[float, float, float, float]
    since_s: float
    seen_s: float


def doubts_after(before: Sequence[Doubt], doubtful: Floats, at_s: float) -> tuple[Doubt, ...]:
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


def open_places(doubts: Sequence[Doubt], at_s: float) -> Floats:
    """Return where another look is worth its time: (N, 4), in pixels of the frame."""
    return _boxes(_open(doubts, at_s))


def is_urgent(doubts: Sequence[Doubt], known: Floats, at_s: float) -> bool:
    """Say whether the very next frame is worth a look for what is doubtful.

    Args:
        doubts: those that there are.
        known: (N, 4), where somebody is, or was just now, in pixels of the frame.
        at_s: when it is now.
    """
    haste_s = HASTE_S / max(1, len(known))
    places = _boxes([each for each in _open(doubts, at_s) if at_s - each.seen_s < haste_s])
    # What touches a face is mostly that face once more, or its ear, hand or collar.
    return not (overlaps(places, known) > 0).any(axis=1).all()


def _open(doubts: Sequence[Doubt], at_s: float) -> list[Doubt]:
    return [each for each in doubts if at_s - each.since_s < DOUBT_S]


def _doubt(box: Floats, before: Sequence[Doubt], at_s: float) -> Doubt:
    x, y, width, height = box.tolist()
    return Doubt((x, y, width, height), min((each.since_s for each in before), default=at_s), at_s)


def _boxes(doubts: Sequence[Doubt]) -> Floats:
    return np.array([each.box for each in doubts], np.float32).reshape(-1, 4)
