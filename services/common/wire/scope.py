"""Which part of a camera's picture detect may look at: masked regions, and the least size of a face.

It is set among a camera's options in capture and sent with each frame, so that any detect knows it. On the
wire coordinates are ten-thousandths of the upright picture's width and height, which hold for any scale.
"""

import functools
import re
from dataclasses import dataclass

from services.common.errors import Refused

Point = tuple[int, int]
Polygon = tuple[Point, ...]
Mask = tuple[Polygon, ...]

WHOLE_SIDE = 10_000
"""The picture's width, and its height, in the unit of a mask."""
MOST_POLYGONS = 16
MOST_POINTS = 64
MOST_FACE_PX = 16_384
_WIRE = re.compile(r"\d{1,5}(?:[,;]\d{1,5})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which part of one camera's pictures is looked at.

    Attributes:
        mask: hidden polygons; corners in ten-thousandths of width and height, clockwise or not. Where a
            polygon overlaps itself is hidden too.
        min_face_px: the least width and height of a face, in pixels of the frame; 0: detect's own setting.
    """

    mask: Mask = ()
    min_face_px: int = 0


WHOLE = Scope()
"""The whole picture, and detect's own least size of a face."""


def read_mask(text: str) -> Mask:
    """Parse `x,y,x,y,x,y...`, from 0 to 1 of the picture's width and height, with `;` between polygons.

    Raises:
        ValueError: it is no mask, or a polygon of it hides nothing.
    """
    polygons = [[float(number) for number in part.split(",")] for part in text.split(";")]
    if any(not 0 <= number <= 1 for polygon in polygons for number in polygon):
        raise ValueError(text)
    return _checked([[round(number * WHOLE_SIDE) for number in polygon] for polygon in polygons])


def mask_to_wire(mask: Mask) -> str:
    """Return a mask as the attribute of a frame."""
    return ";".join(",".join(f"{x},{y}" for x, y in polygon) for polygon in mask)


@functools.lru_cache(maxsize=64)
def mask_from_wire(text: str) -> Mask:
    """Parse the attribute that `mask_to_wire` returns.

    Raises:
        Refused: `bad_mask`. A frame whose mask cannot be read must not be looked at.
    """
    if not _WIRE.fullmatch(text):
        raise Refused("bad_mask", repr(text[:80]))
    polygons = [[int(number) for number in part.split(",")] for part in text.split(";")]
    try:
        if any(number > WHOLE_SIDE for polygon in polygons for number in polygon):
            raise ValueError(text)  # noqa: TRY301 - all errors leave here
        return _checked(polygons)
    except ValueError as error:
        raise Refused("bad_mask", repr(text[:80])) from error


def least_face_from_wire(text: str) -> int:
    """Parse the attribute with the least width and height of a face, pixels.

    Raises:
        Refused: `bad_mask`.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= MOST_FACE_PX):
        raise Refused("bad_mask", f"a face of at least {text[:40]!r} pixels")
    return int(text)


def _checked(polygons: list[list[int]]) -> Mask:
    if len(polygons) > MOST_POLYGONS:
        raise ValueError(f"{len(polygons)} polygons")
    mask = []
    for numbers in polygons:
        corners = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        if len(numbers) % 2 or not 3 <= len(corners) <= MOST_POINTS:
            raise ValueError("no polygon")
        if any(len({corner[axis] for corner in corners}) < 2 for axis in (0, 1)):
            raise ValueError("it has no area")
        mask.append(corners)
    return tuple(mask)
