"""Which of the faces seen now is which of those before: by place, carried on by speed, and by appearance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Self

from services.common.wire.sights import SIGNATURE_BYTES

CHROMA = 4.0
"""So far apart in mean colour (a and b of Lab, 8 bits) are two people, or two lights."""
CORRELATION = 0.4
"""So little alike in grey are two people, or one who has turned."""
_PIXELS = SIGNATURE_BYTES // 3


@dataclass(frozen=True, slots=True)
class Appearance:
    """What is compared of a signature.

    Attributes:
        colour: its mean a and b.
        lightness: of its pixels.
        mean: of the lightness.
        length: of the lightness less its mean, as a vector; 0 of one that is flat.
    """

    colour: tuple[float, float]
    lightness: bytes
    mean: float
    length: float

    @classmethod
    def of(cls, signature: bytes) -> Self | None:
        """Read a signature, or None if there is none."""
        if len(signature) != SIGNATURE_BYTES:
            return None
        lightness = signature[:_PIXELS]
        colour = _mean(signature[_PIXELS : 2 * _PIXELS]), _mean(signature[2 * _PIXELS :])
        # Whole numbers up to the root: a flat one is just that.
        squared = _PIXELS * sum(map(mul, lightness, lightness)) - sum(lightness) ** 2
        return cls(colour, lightness, _mean(lightness), math.sqrt(squared / _PIXELS))


def difference(one: Appearance | None, other: Appearance | None) -> float:
    """Return how unlike two faces are: 0 for the same, from 1 on they are taken for two people's.

    The larger of two: the distance of their mean colours by `CHROMA`; and what the correlation of their
    lightness lacks of 1, by what it lacks at `CORRELATION`. 0 where nothing is known of one.
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
"""Of two boxes that are near: the smaller area in parts of the larger one."""
NEAR = 0.8
"""Face widths between the centres of two boxes that are near."""
REACH_NEW = 25.0
"""How many more for each second, of a face seen once: nobody knows yet where it is going, and some run."""
REACH = 4.0
MOST_REACH_S = 0.3
MOST_REACH = 3.5
MOST_CARRIED_S = 0.3
"""For so long is a face believed to go on as it did."""
_UNLIKE = 0.5
"""What a pair is worth less whose faces are two people's."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What counts of one sight.

    Attributes:
        box: where the face is.
        appearance: what it looks like, if that is known.
        quality: of the picture it would make.
        at_s: when.
    """

    box: Box
    appearance: Appearance | None
    quality: float
    at_s: float


@dataclass(slots=True)
class Track:
    """Where a face was, and where it is going.

    Attributes:
        last: where and when it was seen last.
        sights: how often it was seen.
        speed: of its centre, in pixels a second.
    """

    last: Observation
    sights: int = 1
    speed: tuple[float, float] = (0.0, 0.0)

    def follow(self, observation: Observation) -> None:
        """Take the next sight of this face; one that comes late says nothing of where it is now."""
        self.sights += 1
        if (after_s := self.unseen_s(observation.at_s)) <= 0:
            return
        (x, y), (to_x, to_y) = _centre(self.last.box), _centre(observation.box)
        # The longer ago the last sight was, the less its speed says; at the second there was none.
        new = 1.0 if self.speed == (0.0, 0.0) else min(1.0, 0.5 + after_s)
        old_x, old_y = self.speed
        self.speed = (
            new * (to_x - x) / after_s + (1 - new) * old_x,
            new * (to_y - y) / after_s + (1 - new) * old_y,
        )
        self.last = observation

    def unseen_s(self, at_s: float) -> float:
        """Return for how long it has not been seen; less than nothing for what comes late."""
        return at_s - self.last.at_s

    def expected(self, at_s: float) -> Box:
        """Return where it should be by now."""
        after_s = max(0.0, min(MOST_CARRIED_S, self.unseen_s(at_s)))
        x, y, width, height = self.last.box
        return x + self.speed[0] * after_s, y + self.speed[1] * after_s, width, height

    def reach(self, at_s: float) -> float:
        """Return how far from there it may be, in face widths."""
        a_second = REACH_NEW if self.sights == 1 else REACH
        return min(MOST_REACH, NEAR + a_second * max(0.0, min(MOST_REACH_S, self.unseen_s(at_s))))


def match(tracks: Sequence[Track], observations: Sequence[Observation]) -> dict[int, int]:
    """Return by the index of a sight the index of its track; the best pairs first, each track once.

    Args:
        tracks: of the faces seen before.
        observations: of one frame, so of one time. What they look like decides between two that are equally
            near.
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
    """Return how well two boxes fit: 1 to 2 if they overlap, 0 to 1 if they are near, or None if neither."""
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
