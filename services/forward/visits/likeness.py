"""Whether two faces of 8x8 pixels may be those of two people: in doubt they are."""

import math
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
class Likeness:
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
        """Read a signature; nothing if there is none."""
        if len(signature) != SIGNATURE_BYTES:
            return None
        lightness = signature[:_PIXELS]
        colour = _mean(signature[_PIXELS : 2 * _PIXELS]), _mean(signature[2 * _PIXELS :])
        # Whole numbers up to the root: a flat one is just that.
        squared = _PIXELS * sum(map(mul, lightness, lightness)) - sum(lightness) ** 2
        return cls(colour, lightness, _mean(lightness), math.sqrt(squared / _PIXELS))


def difference(one: Likeness | None, other: Likeness | None) -> float:
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
