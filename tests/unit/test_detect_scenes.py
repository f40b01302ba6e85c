from typing import Any

import numpy as np
import pytest

from services.common.topics import Source
from services.detect.scenes import AFTER_FACE_S, DUE_S, RECENT_S, Scene, Scenes, Shape
from services.detect.stillness import compare

SHAPE = Shape(1280, 720, 1)
FRONT = Source("porch", "front")
GREY = np.full((90, 160), 100, np.uint8)
SIZE = Scene.begin(SHAPE, GREY, 0, sees_face=False).reference.size_bytes


def scene(at_s: float = 100.0, *, sees_face: bool = False) -> Scene:
    return Scene.begin(SHAPE, GREY, at_s, sees_face=sees_face)


def still(known: Scene, at_s: float) -> Scene:
    return known.held_still(compare(known.reference, GREY), at_s)


def test_a_scene_that_holds_still_is_looked_at_every_half_second() -> None:
    known, looks = scene(), []
    for at_s in np.arange(100.125, 103.0, 0.125):
        if known.is_due(at_s):
            looks.append(at_s)
            known = known.looked_at(compare(known.reference, GREY), at_s, sees_face=False)
        else:
            known = still(known, at_s)
    assert looks == [100.5, 101.0, 101.5, 102.0, 102.5]


def test_for_a_while_after_a_face_each_picture_is_looked_at() -> None:
    known = scene(sees_face=True)
    assert known.is_due(100.03)
    known = known.looked_at(compare(known.reference, GREY), 100.0 + AFTER_FACE_S, sees_face=False)
    assert not known.is_due(100.03 + AFTER_FACE_S)


@pytest.mark.parametrize("at_s", [99.9, 100.1 + RECENT_S], ids=["earlier than what is known", "much later"])
def test_what_is_not_known_of_shortly_before_is_not_known(at_s: float) -> None:
    scenes = Scenes(2)
    scenes.remember(FRONT, scene())
    assert scenes.recall(FRONT, SHAPE, 100.0 + DUE_S) is not None
    assert scenes.recall(FRONT, SHAPE, at_s) is None


@pytest.mark.parametrize("change", [{"width": 1279}, {"height": 100}, {"turn": 3}], ids=str)
def test_a_picture_of_another_size_or_turn_begins_anew(change: dict[str, Any]) -> None:
    scenes = Scenes(2)
    scenes.remember(FRONT, scene())
    assert scenes.recall(FRONT, SHAPE._replace(**change), 100.1) is None


def test_of_two_looks_at_once_the_later_picture_counts() -> None:
    scenes = Scenes(2)
    scenes.remember(FRONT, scene(100.2))
    scenes.remember(FRONT, scene(100.1))
    assert scenes.recall(FRONT, SHAPE, 100.15) is None
    assert scenes.recall(FRONT, SHAPE, 100.3) is not None


def test_a_clock_that_is_set_back_makes_a_beginning_not_an_end() -> None:
    scenes = Scenes(2)
    scenes.remember(FRONT, scene(100.0))
    scenes.remember(FRONT, scene(50.0))
    assert scenes.recall(FRONT, SHAPE, 50.1) is not None


def test_any_number_of_cameras_takes_bounded_memory() -> None:
    scenes = Scenes(8)
    for number in range(100):
        scenes.remember(Source("porch", f"c{number}"), scene())
    assert len(scenes) == 8
    assert scenes.recall(Source("porch", "c99"), SHAPE, 100.1) is not None
    assert scenes.recall(Source("porch", "c1"), SHAPE, 100.1) is None


def test_large_pictures_take_bounded_memory_too() -> None:
    scenes = Scenes(1_000, most_bytes=3 * SIZE)
    for number in range(10):
        scenes.remember(Source("porch", f"c{number % 5}"), scene(100 + number))
    assert len(scenes) == 3
    alone = Scenes(1_000, most_bytes=SIZE - 1)
    alone.remember(FRONT, scene())
    assert len(alone) == 0
