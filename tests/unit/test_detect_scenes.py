from typing import Any

import numpy as np
import pytest

from services.common.wire.topics import Source
from services.detect.regions_of_interest import SeenFaces
from services.detect.scenes import RECENT_S, FrameShape, Scene, Scenes

SHAPE = FrameShape(1280, 720, 1)
FRONT = Source("porch", "front")
GREY = np.full((90, 160), 100, np.uint8)
SIZE = Scene.begin(SHAPE, GREY, SeenFaces(), 0).reference.size_bytes


def scene(at_s: float = 100.0) -> Scene:
    return Scene.begin(SHAPE, GREY, SeenFaces(), at_s)


@pytest.mark.parametrize("at_s", [99.9, 100.1 + RECENT_S], ids=["earlier than what is known", "much later"])
def test_what_is_not_known_of_shortly_before_is_not_known(at_s: float) -> None:
    scenes = Scenes(2)
    scenes.remember(FRONT, scene())
    assert scenes.recall(FRONT, SHAPE, 100.5) is not None
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
