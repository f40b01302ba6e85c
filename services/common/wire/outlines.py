"""Where faces are in a picture, for drawing boxes around them; nothing else about the faces."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from services.common.errors import Refused

MOST = 64
"""The most boxes of one picture; further ones are left out."""
MOST_PX = 65_535

Box = tuple[int, int, int, int]
"""Left, top, width, height, in pixels of the upright picture; it may reach beyond."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """The boxes in one picture.

    Attributes:
        width, height: of the upright picture, pixels.
        boxes: at most `MOST`, best first.
    """

    width: int
    height: int
    boxes: tuple[Box, ...] = ()

    @classmethod
    def of(cls, width: int, height: int, boxes: Iterable[Iterable[float]]) -> Self:
        """Return the outlines of a detector's boxes: left, top, width, height in pixels, best first."""
        whole = (_box(round(float(number)) for number in box) for box in boxes)
        return cls(width, height, tuple(whole)[:MOST])

    @classmethod
    def read(cls, body: object) -> Self:
        """Parse parsed JSON as `body` returns it.

        Raises:
            Refused: `bad_boxes`.
        """
        match body:
            case {"size": [width, height], "boxes": [*boxes]} if (
                all(_is_number(side) and side > 0 for side in (width, height)) and len(boxes) <= MOST
            ):
                return cls(width, height, tuple(_read(box) for box in boxes))
        raise Refused("bad_boxes", "not where faces are")

    @property
    def body(self) -> Mapping[str, Any]:
        """The outlines as an object for JSON."""
        return {"size": [self.width, self.height], "boxes": [list(box) for box in self.boxes]}


def _read(box: object) -> Box:
    match box:
        case [int(left), int(top), int(width), int(height)] if all(
            map(_is_number, (left, top, width, height))
        ):
            return left, top, width, height
    raise Refused("bad_boxes", "a box is four numbers")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_PX


def _box(numbers: Iterable[int]) -> Box:
    left, top, width, height = (max(-MOST_PX, min(MOST_PX, number)) for number in numbers)
    return left, top, width, height
