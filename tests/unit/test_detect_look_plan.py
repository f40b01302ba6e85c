from dataclasses import replace

import numpy as np
import pytest

from services.detect.boxes import Detections, Letterbox
from services.detect.look_plan import DUE_S, WHOLE_S, Extent, LookPlan, expects_look, plan
from services.detect.regions_of_interest import AFTER_FACE_S, SeenFaces
from services.detect.scenes import FrameShape, Scene
from services.detect.stillness import Difference, cell_shape
from services.detect.tiling import Grid

SHAPE = FrameShape(1920, 1080, 1)
GREY = np.full((135, 240), 100, np.uint8)
GRID = Grid.of(GREY, Letterbox.fit(1920, 1080, 640))
ANN, BOB = (400.0, 300.0, 100.0, 120.0), (1400.0, 300.0, 100.0, 120.0)


def faces(*boxes: tuple[float, ...]) -> SeenFaces:
    count = len(boxes)
    marks = np.zeros((count, 5, 2), np.float32)
    return SeenFaces(
        Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(count, 0.9, np.float32), marks)
    )


def scene(*boxes: tuple[float, ...]) -> Scene:
    return Scene.begin(SHAPE, GREY, faces(*boxes), 100.0)


def moving(*boxes: tuple[float, ...]) -> Difference:
    """A picture in which something has moved in these places."""
    moved = GRID.cells(np.array(boxes, np.float32).reshape(-1, 4))
    shape = cell_shape(GREY)
    return Difference(GREY, GREY.astype(np.float32), np.zeros(shape, np.float32), moved)


STILL = moving()


def planned(known: Scene, difference: Difference, at_s: float = 100.1, *, by_parts: bool = True) -> LookPlan:
    return plan(known, difference, GRID, at_s, by_parts=by_parts)


def test_where_nothing_has_changed_nothing_is_looked_at_and_everybody_is_still_there() -> None:
    assert planned(scene(ANN, BOB), STILL) == LookPlan(Extent.NONE, kept=(0, 1))
    assert planned(scene(), STILL) == LookPlan(Extent.NONE)


def test_what_has_moved_is_looked_at_and_those_beside_it_are_still_there() -> None:
    found = planned(scene(ANN, BOB), moving((1450.0, 350.0, 20.0, 20.0)))
    assert found.extent is Extent.PARTS
    assert found.kept == (0,)
    [part] = found.parts
    scale = 1920 / 626
    assert part.x * scale <= BOB[0]
    assert (part.x + part.width) * scale >= BOB[0] + BOB[2]
    assert part.y * scale <= BOB[1]
    assert (part.y + part.height) * scale >= BOB[1] + BOB[3]


def test_every_half_second_all_places_are_looked_at_where_a_face_is() -> None:
    assert planned(scene(ANN, BOB), STILL, 100 + 0.9 * DUE_S).extent is Extent.NONE
    found = planned(scene(ANN, BOB), STILL, 100 + DUE_S)
    assert found.extent is Extent.PARTS
    assert found.kept == ()
    assert len(found.parts) == 2
    assert found.sees_places


def test_what_moves_elsewhere_does_not_put_off_the_look_at_those_who_stand_still() -> None:
    known = scene(ANN)
    for at_s in np.arange(100.125, 100.5, 0.125):
        difference = moving((1000.0, 900.0, 50.0, 50.0))
        found = planned(known, difference, at_s)
        assert found.kept == (0,)
        known = known.looked_at(
            difference, faces(ANN), at_s, cells=found.cells, sees_places=found.sees_places
        )
    assert planned(known, difference, 100.5).kept == ()


def test_every_other_second_the_whole_is_looked_at() -> None:
    known = scene()
    assert planned(known, STILL, 100 + 0.9 * WHOLE_S).extent is Extent.NONE
    assert planned(known, STILL, 100 + WHOLE_S).extent is Extent.WHOLE
    assert planned(known, moving((900.0, 900.0, 10.0, 10.0)), 100 + WHOLE_S).extent is Extent.WHOLE


def test_where_everything_has_moved_the_whole_is_looked_at() -> None:
    assert planned(scene(ANN), moving((0.0, 0.0, 1920.0, 1080.0))).extent is Extent.WHOLE


def test_a_face_that_was_not_found_again_is_looked_for_where_it_was() -> None:
    known = scene(ANN).looked_at(moving(ANN), faces(), 100.2, cells=moving(ANN).moved, sees_places=True)
    assert planned(known, STILL, 100.3).extent is Extent.NONE
    found = planned(known, STILL, 100.7)
    assert found.extent is Extent.PARTS
    assert len(found.parts) == 1
    forgotten = known.looked_at(STILL, faces(), 100.2 + AFTER_FACE_S)
    assert planned(forgotten, STILL, 100.7 + AFTER_FACE_S).extent is Extent.NONE


def test_without_parts_the_whole_is_looked_at_twice_a_second_and_whenever_anything_moves() -> None:
    assert planned(scene(), STILL, 100.4, by_parts=False).extent is Extent.NONE
    assert planned(scene(), STILL, 100.5, by_parts=False).extent is Extent.WHOLE
    assert planned(scene(), moving((900.0, 900.0, 10.0, 10.0)), by_parts=False).extent is Extent.WHOLE


def test_without_parts_each_picture_is_looked_at_for_a_while_after_a_face() -> None:
    assert planned(scene(ANN), STILL, by_parts=False).extent is Extent.WHOLE
    known = scene(ANN).looked_at(STILL, faces(), 100.0 + AFTER_FACE_S)
    assert planned(known, STILL, 100.1 + AFTER_FACE_S, by_parts=False).extent is Extent.NONE


@pytest.mark.parametrize("by_parts", [True, False])
def test_a_look_is_expected_where_something_moved_or_one_is_due(*, by_parts: bool) -> None:
    assert not expects_look(scene(), 100.1, by_parts=by_parts)
    assert expects_look(replace(scene(), was_moving=True), 100.1, by_parts=by_parts)
    assert expects_look(scene(), 102.0, by_parts=by_parts)
    assert expects_look(scene(ANN), 100.5, by_parts=by_parts)


def test_where_something_looks_a_little_like_a_face_is_looked_at_for_a_moment() -> None:
    known = Scene.begin(SHAPE, GREY, faces(ANN), 100.0, np.array([BOB], np.float32))
    found = planned(known, STILL)
    assert expects_look(known, 100.1, by_parts=True)
    assert found.extent is Extent.PARTS
    assert found.kept == (0,)
    [part] = found.parts
    assert part.x * 1920 / 626 <= BOB[0]
    assert planned(known, STILL, by_parts=False).extent is Extent.WHOLE
    assert planned(replace(known, whole_s=101.0, places_s=101.0), STILL, at_s=101.1).extent is Extent.NONE
