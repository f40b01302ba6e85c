"""Whether two faces of 8x8 pixels may be those of two people: in doubt they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Self

from services.common.sights import SIGNATURE_BYTES

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
        pattern: its lightness, less the mean, at length 1; empty of one that is flat.
    """

    colour: tuple[float, float]
    pattern: tuple[float, ...]

    @classmethod
    def of(cls, signature: bytes) -> Self | None:
        """Read a signature; nothing if there is none."""
        if len(signature) != SIGNATURE_BYTES:
            return None
        lightness = signature[:_PIXELS]
        mean = _mean(lightness)
        centred = [value - mean for value in lightness]
        length = math.sqrt(sum(map(mul, centred, centred)))
        colour = _mean(signature[_PIXELS : 2 * _PIXELS]), _mean(signature[2 * _PIXELS :])
        return cls(colour, tuple(value / length for value in centred) if length else ())


def difference(one: Likeness | None, other: Likeness | None) -> float:
    """Return how unlike two faces are: 0 for the same, from 1 on they are taken for two people's.

    The larger of two: the distance of their mean colours by `CHROMA`; and what the correlation of their
    lightness lacks of 1, by what it lacks at `CORRELATION`. 0 where nothing is known of one.
    """
    if one is None or other is None:
        return 0.0
    colours = math.dist(one.colour, other.colour) / CHROMA
    if not one.pattern or not other.pattern:
        return colours
    correlation: float = sum(map(mul, one.pattern, other.pattern))
    return max(colours, (1.0 - correlation) / (1.0 - CORRELATION))


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
