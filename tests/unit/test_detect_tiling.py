from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.detect.boxes import Floats, Letterbox, Rectangle
from services.detect.stillness import Cells
from services.detect.tiling import MOST_PARTS, TILE_PX, Grid, parts

LEAST_BORDER_PX = 16
"""With less faces are found less: the detector judges by what is about them."""
SIZES = ((1920, 1080), (1280, 720), (640, 480), (480, 270), (1366, 768), (720, 1280))


def grid(width: int = 1920, height: int = 1080) -> Grid:
    """Of a picture that is compared at a third of the detector's scale."""
    letterbox = Letterbox.fit(width, height, 640)
    return Grid.of(np.zeros((-(-letterbox.height // 3), -(-letterbox.width // 3)), np.uint8), letterbox)


def boxes(*each: Sequence[float]) -> Floats:
    return np.array(each, np.float32).reshape(-1, 4)


def around(cells: Cells, on: Grid, border: float) -> list[tuple[float, float, float, float]]:
    """Where each of the cells is on the canvas, with so much around it, as far as the canvas goes."""
    found = []
    for row, column in np.argwhere(cells).tolist():
        found.append(
            (
                max(0.0, column * on.width - border),
                max(0.0, row * on.height - border),
                min((column + 1) * on.width + border, on.across * TILE_PX),
                min((row + 1) * on.height + border, on.down * TILE_PX),
            )
        )
    return found


def holds(shown: Iterable[Rectangle], x: float, y: float, right: float, below: float) -> bool:
    return any(
        each.x <= x + 1
        and each.y <= y + 1
        and each.x + each.width >= right - 1
        and each.y + each.height >= below - 1
        for each in shown
    )


@given(st.sampled_from(SIZES), st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), max_size=5))
def test_every_cell_that_is_asked_for_is_shown_with_its_border(
    size: tuple[int, int], places: list[tuple[float, float]]
) -> None:
    on = grid(*size)
    cells = np.zeros((on.rows, on.columns), np.bool_)
    for x, y in places:
        cells[int(y * on.rows), int(x * on.columns)] = True
    shown = parts(cells, on)
    if shown is not None:
        assert all(holds(shown, *place) for place in around(cells, on, LEAST_BORDER_PX))


@given(st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), max_size=30))
def test_parts_lie_on_the_canvas_as_the_networks_grids_do(places: list[tuple[float, float]]) -> None:
    on = grid()
    cells = np.zeros((on.rows, on.columns), np.bool_)
    for x, y in places:
        cells[int(y * on.rows), int(x * on.columns)] = True
    for each in parts(cells, on) or []:
        assert all(side % TILE_PX == 0 for side in each)
        assert each.width > 0
        assert each.height > 0
        assert each.x + each.width <= on.across * TILE_PX
        assert each.y + each.height <= on.down * TILE_PX


def test_two_who_are_far_apart_are_two_parts_and_two_who_are_near_are_one() -> None:
    on = grid()
    far = parts(on.cells(boxes((100, 500, 60, 60), (1700, 500, 60, 60))), on)
    near = parts(on.cells(boxes((800, 500, 60, 60), (900, 500, 60, 60))), on)
    assert far is not None
    assert near is not None
    assert len(far) == 2
    assert len(near) == 1
    assert sum(each.width * each.height for each in far) < 0.3 * 640 * 352


def test_where_parts_are_as_dear_as_the_whole_the_whole_is_shown() -> None:
    on = grid()
    assert parts(np.ones((on.rows, on.columns), np.bool_), on) is None
    everywhere = boxes(*((x, y, 20, 20) for x in range(50, 1900, 200) for y in range(50, 1000, 200)))
    assert len(everywhere) > MOST_PARTS
    assert parts(on.cells(everywhere), on) is None


def test_nothing_is_shown_where_nothing_is_asked_for() -> None:
    on = grid()
    assert parts(np.zeros((on.rows, on.columns), np.bool_), on) == []


def test_a_box_touches_the_cells_that_it_covers() -> None:
    on = grid()
    moved = on.cells(boxes((960, 540, 10, 10)))
    asked = boxes((900, 500, 100, 100), (100, 100, 100, 100), (970, 500, 100, 100), (961, 541, 1, 1))
    assert on.touched(asked, moved).tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    "box", [(-100, -100, 50, 50), (5000, 5000, 10, 10), (-10, -10, 4000, 4000), (10, 10, 0, 0)]
)
def test_boxes_that_reach_beyond_the_picture_are_borne(box: tuple[float, ...]) -> None:
    assert grid().cells(boxes(box)).any()
