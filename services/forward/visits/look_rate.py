"""How often a camera is to be looked at for a visit, in parts of the usual rate."""

import math

from services.common.wire.seen import MOST_HASTE
from services.forward.visits.matching import Box, Track

NEW_SIGHTS = 3
"""A face is new until it was seen so many times: its speed is known then, and it is likely to have been sharp
once."""
FAST = 6.0
"""Face widths a second that the usual rate can follow."""
LEAVING_S = 0.1
"""A face is about to leave if it will have reached the edge of the picture after so long."""
LEAVING = 2.0
STILL = 0.5
"""Face widths a second; a slower face stands still, and its box only jitters."""
RESTING = 0.5
"""The rate for a face that stands still and has a good picture."""


def look_rate(track: Track, *, width: int, height: int, has_good: bool) -> float:
    """Return how many times as often as usual the camera is to be looked at for a visit.

    Args:
        track: the track of its face, which was seen just now.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        has_good: whether its picture is good, or there was no better one for some time.
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
    """Return where a face will be after so many seconds if it keeps its speed."""
    x, y, wide, high = track.last.box
    return x + track.speed[0] * seconds, y + track.speed[1] * seconds, wide, high
