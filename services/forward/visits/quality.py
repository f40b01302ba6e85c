"""How good a picture of a face would be, from what is known before it is cut.

    quality = (size * score * frontality * sharpness) ** (1/4) * edge

Each factor is 0..1. It is a geometric mean, so a picture that is bad in one way is a bad picture: the
sharpest one of the back of a head is worth little.
"""

import math
from collections.abc import Sequence

from services.common.wire.seen import SeenFace

LARGE_PX = 160.0
"""The size from which on a face is large enough for any use; half of it counts for half."""
LEAST_SCORE = 0.5
SHARP = 120.0
"""The sharpness at which this factor is 1."""
PROFILE = 0.5
"""In half profile the nose's tip is so far from the middle of the eyes, in distances of the eyes."""
TOUCHING_PX = 2.0
CUT_OFF = 0.6
"""The factor for a face that touches the frame's edge: part of it may be missing."""
LEAST = 0.05
"""The least value of a factor, so that one alone does not make the others count for nothing."""


def quality(sight: SeenFace, frame_width: int, frame_height: int) -> float:
    """Return how good a picture of this sight would be, 0..1.

    Args:
        sight: what was seen.
        frame_width: of the frame, in pixels.
        frame_height: of the frame, in pixels.
    """
    _, _, width, height = sight.box
    factors = (
        math.sqrt(max(0.0, width * height)) / LARGE_PX,
        (sight.score - LEAST_SCORE) / (1 - LEAST_SCORE),
        frontality(sight.landmarks),
        2 * sight.sharpness / (sight.sharpness + SHARP) if sight.sharpness > 0 else 0.0,
    )
    mean = math.prod(min(1.0, max(LEAST, factor)) for factor in factors) ** (1 / len(factors))
    return mean * (CUT_OFF if _touches_edge(sight, frame_width, frame_height) else 1.0)


def frontality(landmarks: Sequence[float]) -> float:
    """Return how much a face looks into the camera, 0 (half profile and beyond) to 1; 1 without landmarks.

    It is measured along the line of the eyes, so that a tilted head does not count as turned away.
    """
    if len(landmarks) != 10:
        return 1.0
    right_x, right_y, left_x, left_y, nose_x, nose_y = landmarks[:6]
    across_x, across_y = left_x - right_x, left_y - right_y
    squared = across_x**2 + across_y**2
    if squared <= 0:
        return 0.0
    middle_x, middle_y = (right_x + left_x) / 2, (right_y + left_y) / 2
    aside = abs((nose_x - middle_x) * across_x + (nose_y - middle_y) * across_y) / squared
    return max(0.0, 1.0 - aside / PROFILE)


def _touches_edge(sight: SeenFace, frame_width: int, frame_height: int) -> bool:
    left, top, width, height = sight.box
    return (
        min(left, top) < TOUCHING_PX
        or left + width > frame_width - TOUCHING_PX
        or top + height > frame_height - TOUCHING_PX
    )
