"""How often the visits before a camera need a look, in parts of what is usual."""

import math

from services.common.wire.sights import MOST_HASTE
from services.forward.visits.matching import Box, Track

USUAL_S = 0.1
"""From look to look, about, where nothing is said of haste."""
NEW_SIGHTS = 3
"""A face is new until it was seen so often: where it is going is known then, and it is likely to have been
sharp once."""
FAST = 6.0
"""Face widths a second that the usual looks can follow."""
LEAVING_S = 0.1
"""A face that will have reached the edge of the picture by then is about to leave it."""
LEAVING = 2.0
STILL = 0.5
"""Face widths a second; a face that is slower stands, whatever the detector's box does."""
RESTING = 0.5
"""How often is enough for one that stands and has its good picture."""


def look_rate(track: Track, *, width: int, height: int, has_good: bool) -> float:
    """Return how many times as often as usual a visit needs a look.

    Args:
        track: of its face, which was seen just now.
        width: of the frame, in pixels.
        height: likewise.
        has_good: whether its picture is here, and good, or has not been bettered for long.
    """
    if track.sights < NEW_SIGHTS:
        return MOST_HASTE
    speed = math.hypot(*track.speed) / track.last.box[2]
    if speed < STILL:
        return RESTING if has_good else 1.0
    hasty = max(1.0, speed / FAST)
    return max(LEAVING, hasty) if _leaves(track, width, height) else hasty


def _leaves(track: Track, width: int, height: int) -> bool:
    x, y, wide, high = ahead(track, LEAVING_S)
    return x < 0 or y < 0 or x + wide > width or y + high > height


def ahead(track: Track, seconds: float) -> Box:
    """Return where a face will be if it goes on as it does."""
    x, y, wide, high = track.last.box
    return x + track.speed[0] * seconds, y + track.speed[1] * seconds, wide, high
