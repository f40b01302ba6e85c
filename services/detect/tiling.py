"""Covers the cells to look at with few and small rectangles of the detector's canvas, made of tiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from services.detect.boxes import MULTIPLE_PX, Floats, Letterbox, Rectangle
from services.detect.codec import GreyImage
from services.detect.stillness import CELL_PX, Cells, cell_shape

TILE_PX = MULTIPLE_PX
"""Parts begin and end at multiples of it, so that the network's grids lie in them as in the whole."""
BORDER_PX = 16
"""The border shown around the cells asked for: a face at the edge of what the network sees scores less. Cells
that have moved reach some ten pixels beyond the face that did."""
FACE_BORDER = 0.25
"""The border around a face, as a fraction of its size: the network judges a large face by more around it."""
MOST_PARTS = 12
"""If it would take more, the whole picture is shown."""

_RUN_TILES = 8
"""What a run of the network costs besides its pixels, in tiles."""
_MOST_OF_WHOLE = 0.85
"""If parts cost more than this fraction of the whole, that is shown: it is more certain."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How the cells of a small picture (see `stillness`) lie in the frame and on the detector's canvas.

    Attributes:
        rows, columns: how many cells there are.
        width, height: of a cell, in pixels of the canvas.
        frame_width, frame_height: of a cell, in pixels of the frame.
        across, down: how many tiles the canvas has in each direction.
    """

    rows: int
    columns: int
    width: float
    height: float
    frame_width: float
    frame_height: float
    across: int
    down: int

    @classmethod
    def of(cls, grey: GreyImage, letterbox: Letterbox) -> Self:
        """Return where the cells of a small picture lie."""
        rows, columns = cell_shape(grey)
        high, wide = grey.shape
        return cls(
            rows,
            columns,
            CELL_PX * letterbox.width / wide,
            CELL_PX * letterbox.height / high,
            CELL_PX * letterbox.source_width / wide,
            CELL_PX * letterbox.source_height / high,
            letterbox.canvas_width // TILE_PX,
            letterbox.canvas_height // TILE_PX,
        )

    def cells(self, boxes: Floats) -> Cells:
        """Return the cells that boxes (N, 4), in pixels of the frame, touch."""
        found = np.zeros((self.rows, self.columns), np.bool_)
        for place in self._places(boxes):
            found[place] = True
        return found

    def touched(self, boxes: Floats, cells: Cells) -> npt.NDArray[np.bool_]:
        """Return for each box, in pixels of the frame, whether it touches one of these cells: (N,) bool."""
        return np.fromiter((cells[place].any() for place in self._places(boxes)), np.bool_, len(boxes))

    def _places(self, boxes: Floats) -> Iterator[tuple[slice, slice]]:
        for x, y, width, height in boxes.tolist():
            yield (
                _span(y / self.frame_height, (y + height) / self.frame_height, self.rows),
                _span(x / self.frame_width, (x + width) / self.frame_width, self.columns),
            )

    def tiles(self, cells: Cells) -> npt.NDArray[np.uint8]:
        """Return the tiles that these cells need, with their border: (down, across) uint8, 1 or 0."""
        reach = 2 * int(np.ceil(BORDER_PX / self.width)) + 1, 2 * int(np.ceil(BORDER_PX / self.height)) + 1
        rows, columns = np.nonzero(cv2.dilate(cells.astype(np.uint8), np.ones(reach[::-1], np.uint8)))
        found = np.zeros((self.down, self.across), np.uint8)
        for row in (rows * self.height, (rows + 1) * self.height - 1):
            for column in (columns * self.width, (columns + 1) * self.width - 1):
                found[_tile(row, self.down), _tile(column, self.across)] = 1
        return found


def with_border(boxes: Floats) -> Floats:
    """Return boxes (N, 4) of faces, enlarged by their border."""
    margin = FACE_BORDER * boxes[:, 2:]
    return np.hstack([boxes[:, :2] - margin, boxes[:, 2:] + 2 * margin])


def parts(cells: Cells, grid: Grid) -> list[Rectangle] | None:
    """Return the parts of a picture to show, in pixels of the canvas; None if the whole is about as cheap.

    Args:
        cells: to be covered.
        grid: how they lie on the canvas.
    """
    count, _, found, _ = cv2.connectedComponentsWithStats(grid.tiles(cells))
    if count - 1 > MOST_PARTS:
        return None
    together = _merged([Rectangle(*map(int, each[:4])) for each in found[1:]])
    if sum(map(_cost, together)) > _MOST_OF_WHOLE * (grid.across * grid.down + _RUN_TILES):
        return None
    return [Rectangle(*(TILE_PX * side for side in each)) for each in together]


def _merged(boxes: list[Rectangle]) -> list[Rectangle]:
    """Return the rectangles with those made one that together cost no more."""
    while True:
        pairs = ((one, other) for number, one in enumerate(boxes) for other in boxes[:number])
        worth = next(
            (pair for pair in pairs if _cost(_around(*pair)) <= _cost(pair[0]) + _cost(pair[1])), None
        )
        if worth is None:
            return boxes
        boxes = [*(each for each in boxes if each not in worth), _around(*worth)]


def _around(one: Rectangle, other: Rectangle) -> Rectangle:
    x, y = min(one.x, other.x), min(one.y, other.y)
    right = max(one.x + one.width, other.x + other.width)
    return Rectangle(x, y, right - x, max(one.y + one.height, other.y + other.height) - y)


def _cost(tiles: Rectangle) -> int:
    return tiles.width * tiles.height + _RUN_TILES


def _span(first: float, last: float, count: int) -> slice:
    """Return the range of cells from `first` to `last`, within the `count` there are and at least one."""
    start = min(max(0, int(first)), count - 1)
    return slice(start, max(start + 1, min(count, int(np.ceil(last)))))


def _tile(pixels: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.intp]:
    return np.clip(pixels / TILE_PX, 0, count - 1).astype(np.intp)
