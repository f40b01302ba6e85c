from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.detect.boxes import Floats
from services.detect.stillness import CELL_PX, Reference, cell_shape, compare, learn, renew
from tests.still_scenes import HEIGHT, WIDTH, Room

if TYPE_CHECKING:
    from services.detect.codec import GreyImage

ROWS = np.arange(HEIGHT)[:, None]


def moves(room: Room, scene: Floats, noise: float = 2.0, quality: int = 85) -> bool:
    """Whether a scene differs from the empty room, seen by the same camera."""
    reference = Reference.of(room.taken(room.empty, noise, quality))
    return not compare(reference, room.taken(scene, noise, quality)).is_still


@pytest.mark.parametrize("noise", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("quality", [50, 85, 95])
def test_a_sensors_noise_and_compression_are_no_movement(noise: float, quality: int) -> None:
    room = Room()
    assert not any(moves(room, room.empty, noise, quality) for _ in range(3))


@pytest.mark.parametrize("gain", [0.75, 0.9, 1.1, 1.25])
def test_a_cameras_own_gain_is_no_movement(gain: float) -> None:
    room = Room()
    assert not moves(room, room.empty * gain)


def test_the_bands_of_a_lamp_that_flickers_are_no_movement() -> None:
    room = Room()
    for phase in np.linspace(0, 2 * np.pi, 12):
        flicker = 1 + 0.12 * np.sin(2 * np.pi * 3.3 * ROWS / HEIGHT + phase)
        assert not moves(room, (room.empty * flicker).astype(np.float32))


@pytest.mark.parametrize("streaks", [20, 200, 1_000])
def test_rain_is_no_movement(streaks: int) -> None:
    room = Room()
    reference = Reference.of(room.taken(room.in_rain(streaks)))
    assert compare(reference, room.taken(room.in_rain(streaks))).is_still


@pytest.mark.parametrize("noise", [2.0, 8.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_least_face_is_movement_wherever_it_appears(seed: int, noise: float) -> None:
    room = Room(seed)
    x, y = room.chance.uniform(20, WIDTH - 20), room.chance.uniform(20, HEIGHT - 20)
    assert moves(room, room.with_head(x, y, 20, skin=room.chance.uniform(60, 200)), noise)


def test_a_face_is_movement_while_the_light_changes_too() -> None:
    room = Room()
    flicker = (1 + 0.12 * np.sin(ROWS / 40)).astype(np.float32)
    assert moves(room, room.with_head(500, 300, 24) * flicker * 0.85)


def test_only_the_cells_around_what_moved_have_moved() -> None:
    room = Room()
    difference = compare(Reference.of(room.taken(room.empty)), room.taken(room.with_head(500, 300, 40)))
    rows, columns = np.nonzero(difference.moved)
    cell = 8 * CELL_PX
    assert rows.min() * cell > 300 - 20 - 2 * cell
    assert (rows.max() + 1) * cell < 300 + 20 + 2 * cell
    assert columns.min() * cell > 500 - 16 - 2 * cell
    assert (columns.max() + 1) * cell < 500 + 16 + 2 * cell


def watched(room: Room, scene: Callable[[], Floats], times: int) -> tuple[Reference, list[bool]]:
    """Look at a scene so many times; say in which of them something moved."""
    reference, moved = Reference.of(room.taken(scene())), []
    for _ in range(times):
        difference = compare(reference, room.taken(scene()))
        reference = renew(learn(reference, difference), difference)
        moved.append(not difference.is_still)
    return reference, moved


def test_a_place_that_is_never_still_is_learnt_and_a_face_there_is_seen_all_the_same() -> None:
    room = Room()

    def by_a_screen() -> Floats:
        scene = room.empty.copy()
        scene[200:300, 300:500] += room.chance.choice([-6.0, 0.0, 6.0])
        return scene

    reference, moved = watched(room, by_a_screen, 60)
    assert any(moved[:10])
    assert not any(moved[30:])
    assert not compare(reference, room.taken(room.with_head(400, 250, 24))).is_still


def test_what_somebody_did_who_walked_by_is_forgotten() -> None:
    room = Room()
    steps = iter([room.with_head(100 + 15 * step, 300, 60) for step in range(20)])
    reference, _ = watched(room, lambda: next(steps), 19)
    assert reference.noise.max() > 1.5
    for _ in range(100):
        difference = compare(reference, room.taken(room.empty))
        reference = renew(learn(reference, difference), difference)
    assert reference.noise.max() < 1.5


def test_after_a_look_at_a_part_the_rest_is_compared_with_what_it_was() -> None:
    room = Room()
    before = Reference.of(room.taken(room.empty))
    dimmed = compare(before, room.taken(room.with_head(200, 300, 40) * 0.9))
    seen = np.zeros(cell_shape(before.grey), np.bool_)
    seen[:, : seen.shape[1] // 2] = True
    after = renew(before, dimmed, seen)
    assert compare(after, room.taken(room.with_head(200, 300, 40) * 0.9)).is_still
    assert not compare(after, room.taken(room.empty * 0.9)).is_still
    head_elsewhere = room.with_head(200, 300, 40) + room.with_head(700, 300, 40) - room.empty
    assert not compare(after, room.taken(head_elsewhere * 0.9)).is_still


def test_where_faces_are_nothing_is_learnt() -> None:
    room = Room()
    reference = Reference.of(room.taken(room.empty))
    difference = compare(reference, room.taken(room.with_head(500, 300, 60)))
    assert learn(reference, difference).noise.max() > 0.4
    near_faces = difference.level > 1
    assert learn(reference, difference, near_faces).noise[near_faces].max() == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.integers(0, 255))
def test_pictures_of_any_size_are_compared(height: int, width: int, before: int, now: int) -> None:
    reference = Reference.of(np.full((height, width), before, np.uint8))
    grey: GreyImage = np.full((height, width), now, np.uint8)
    difference = compare(reference, grey)
    assert difference.moved.shape == reference.noise.shape == cell_shape(grey)
    assert np.isfinite(difference.level).all()
    assert renew(learn(reference, difference), difference, difference.moved).grey.shape == grey.shape
