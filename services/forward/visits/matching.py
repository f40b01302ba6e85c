"""Which of the faces seen now is which of those before: by place, predicted from speed, and by appearance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Self

from services.common.wire.seen import SIGNATURE_BYTES

CHROMA = 4.0
"""Mean colours (a and b of Lab, 8 bits) that are so far apart are of two people, or two lights."""
CORRELATION = 0.4
"""Two faces whose lightness correlates by less are two people's, or one that has turned."""
_PIXELS = SIGNATURE_BYTES // 3


@dataclass(frozen=True, slots=True)
class Appearance:
    """What two signatures are compared by.

    Attributes:
        colour: the mean a and b of its pixels, Lab, 8 bits.
        lightness: of each pixel, a byte each.
        mean: the mean lightness.
        length: of the vector of lightness less its mean; 0 if all pixels are alike.
    """

    colour: tuple[float, float]
    lightness: bytes
    mean: float
    length: float

    @classmethod
    def of(cls, signature: bytes) -> Self | None:
        """Read a signature; return None if it has not `SIGNATURE_BYTES`."""
        if len(signature) != SIGNATURE_BYTES:
            return None
        lightness = signature[:_PIXELS]
        colour = _mean(signature[_PIXELS : 2 * _PIXELS]), _mean(signature[2 * _PIXELS :])
        # In whole numbers up to the root, so that a flat signature gives exactly 0.
        squared = _PIXELS * sum(map(mul, lightness, lightness)) - sum(lightness) ** 2
        return cls(colour, lightness, _mean(lightness), math.sqrt(squared / _PIXELS))


def difference(one: Appearance | None, other: Appearance | None) -> float:
    """Return how unlike two faces are: 0 for the same; beyond 1 they are taken for two people's.

    It is the larger of the distance of their mean colours, in units of `CHROMA`, and of 1 less the
    correlation of their lightness, in units of 1 less `CORRELATION`. 0 if one of them is None.
    """
    if one is None or other is None:
        return 0.0
    colours = math.dist(one.colour, other.colour) / CHROMA
    if not one.length or not other.length:
        return colours
    shared = sum(map(mul, one.lightness, other.lightness)) - _PIXELS * one.mean * other.mean
    correlation: float = shared / (one.length * other.length)
    return max(colours, (1.0 - correlation) / (1.0 - CORRELATION))


def _mean(values: bytes) -> float:
    return sum(values) / len(values)


Box = tuple[float, float, float, float]

LEAST_OVERLAP = 0.2
LEAST_AREAS = 0.5
"""The least ratio of the areas of two boxes that are near each other."""
NEAR = 0.8
"""Boxes are near if their centres are not more than so many face widths apart."""
REACH_NEW = 25.0
"""Face widths more for each second, for a face seen once: its speed is not known yet, and some people run."""
REACH = 4.0
MOST_REACH_S = 0.3
MOST_REACH = 3.5
MOST_CARRIED_S = 0.3
"""A face is predicted to keep its speed for so long, and to stand then."""
_UNLIKE = 0.5
"""How much less a pair is worth if its faces are two people's."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A face in one frame.

    Attributes:
        box: x, y, width and height in pixels of the frame.
        appearance: what it looks like; None if it has no signature.
        quality: of the picture that it would make, 0..1.
        at_s: the time of the frame, Unix time.
    """

    box: Box
    appearance: Appearance | None
    quality: float
    at_s: float


@dataclass(slots=True)
class Track:
    """Where a face was, and its speed.

    Attributes:
        last: its last observation.
        sights: how many times it was seen.
        speed: of its centre, in pixels a second.
    """

    last: Observation
    sights: int = 1
    speed: tuple[float, float] = (0.0, 0.0)

    def follow(self, observation: Observation) -> None:
        """Add an observation of this face; one that comes late does not change where it is."""
        self.sights += 1
        if (after_s := self.unseen_s(observation.at_s)) <= 0:
            return
        (x, y), (to_x, to_y) = _centre(self.last.box), _centre(observation.box)
        # The longer ago the last observation was, the less the old speed counts; at the second there is none.
        new = 1.0 if self.speed == (0.0, 0.0) else min(1.0, 0.5 + after_s)
        old_x, old_y = self.speed
        self.speed = (
            new * (to_x - x) / after_s + (1 - new) * old_x,
            new * (to_y - y) / after_s + (1 - new) * old_y,
        )
        self.last = observation

    def unseen_s(self, at_s: float) -> float:
        """Return for how many seconds it has not been seen; negative before the last observation."""
        return at_s - self.last.at_s

    def expected(self, at_s: float) -> Box:
        """Return the box where it is predicted to be."""
        after_s = max(0.0, min(MOST_CARRIED_S, self.unseen_s(at_s)))
        x, y, width, height = self.last.box
        return x + self.speed[0] * after_s, y + self.speed[1] * after_s, width, height

    def reach(self, at_s: float) -> float:
        """Return how far from there it may be, in face widths."""
        a_second = REACH_NEW if self.sights == 1 else REACH
        return min(MOST_REACH, NEAR + a_second * max(0.0, min(MOST_REACH_S, self.unseen_s(at_s))))


def match(tracks: Sequence[Track], observations: Sequence[Observation]) -> dict[int, int]:
    """Return the index of its track by the index of an observation; the best pairs first, each track once.

    Args:
        tracks: of the faces seen before.
        observations: of one frame. Of two that are equally near, the more similar one is chosen.
    """
    if not observations:
        return {}
    at_s = observations[0].at_s
    pairs = []
    for index, track in enumerate(tracks):
        expected, reach = track.expected(at_s), track.reach(at_s)
        for number, observation in enumerate(observations):
            strength = _strength(expected, observation.box, reach)
            if strength is not None:
                unlike = min(1.0, difference(track.last.appearance, observation.appearance))
                pairs.append((strength - _UNLIKE * unlike, number, index))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, number, index in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if number not in found and index not in taken:
            found[number] = index
            taken.add(index)
    return found


def _strength(expected: Box, box: Box, reach: float) -> float | None:
    """Return how well two boxes fit: 1 to 2 if they overlap, 0 to 1 if they are near, None otherwise."""
    overlap = intersection_over_union(expected, box)
    if overlap > LEAST_OVERLAP:
        return 1 + overlap
    areas = expected[2] * expected[3], box[2] * box[3]
    if min(areas) < LEAST_AREAS * max(areas):
        return None
    (x, y), (other_x, other_y) = _centre(expected), _centre(box)
    limit = reach * (expected[2] + box[2]) / 2
    distance = math.hypot(other_x - x, other_y - y)
    return 1 - distance / limit if distance < limit else None


def intersection_over_union(one: Box, other: Box) -> float:
    """Return how much two boxes overlap, 0..1."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _centre(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2
