"""How soon a camera is worth another look."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire.frames import MOST_NEXT_S
from services.common.wire.seen import LEAST_HASTE, MOST_HASTE
from services.common.wire.topics import Source
from services.detect.look_interval import (
    LINGER_S,
    STILL_S,
    UNKNOWN_S,
    LastFaceTimes,
    LookSummary,
    next_look_s,
)

LONG_S = 60.0
FRONT, YARD = Source("porch", "front"), Source("porch", "yard")


@given(
    faces=st.integers(0, 200),
    unseen_s=st.floats(0, 1e6),
    haste=st.none() | st.floats(LEAST_HASTE, MOST_HASTE),
    is_still=st.none() | st.booleans(),
    looks_per_s=st.floats(0, 1000),
)
def test_whatever_is_seen_the_next_look_is_soon(
    faces: int, unseen_s: float, haste: float | None, *, is_still: bool | None, looks_per_s: float
) -> None:
    pause_s = next_look_s(LookSummary(faces, unseen_s, haste, is_still), looks_per_s)
    assert 0 <= pause_s <= MOST_NEXT_S
    assert math.isfinite(pause_s)


def test_each_frame_is_looked_at_where_that_is_asked_for() -> None:
    assert next_look_s(LookSummary(0, LONG_S, None, is_still=True), 0.0) == 0.0


@pytest.mark.parametrize(
    ("haste", "looks"), [(1.0, 10.0), (0.5, 5.0), (2.0, 20.0), (MOST_HASTE, 160.0), (None, 10.0)]
)
def test_where_a_face_is_forward_says_how_often(haste: float | None, looks: float) -> None:
    assert next_look_s(LookSummary(1, 0.1, haste), 10.0) == pytest.approx(1 / looks)


def test_without_forward_a_face_that_appears_is_looked_at_again_at_once() -> None:
    assert next_look_s(LookSummary(1, LONG_S), 10.0) < 0.01
    assert next_look_s(LookSummary(1, LINGER_S / 2), 10.0) == pytest.approx(0.1)


def test_for_a_while_after_a_face_the_camera_is_looked_at_as_before() -> None:
    after = [
        next_look_s(LookSummary(0, unseen_s, is_still=True), 10.0) for unseen_s in (0.1, 1.9, 2.1, LONG_S)
    ]
    assert after == [0.1, 0.1, STILL_S, STILL_S]


@pytest.mark.parametrize(("is_still", "pause_s"), [(True, STILL_S), (None, UNKNOWN_S), (False, 0.1)])
def test_the_less_changes_the_fewer_looks(*, is_still: bool | None, pause_s: float) -> None:
    assert next_look_s(LookSummary(0, LONG_S, is_still=is_still), 10.0) == pause_s


def test_no_scene_is_looked_at_more_often_than_a_face_is() -> None:
    assert next_look_s(LookSummary(0, LONG_S, is_still=True), 2.0) == 0.5


def test_of_each_camera_it_is_known_since_when_no_face_was_there() -> None:
    attention = LastFaceTimes(max_cameras=2)
    attention.note(FRONT, 1, 10.0)
    attention.note(YARD, 0, 11.0)
    attention.note(FRONT, 0, 12.0)
    assert (attention.unseen_s(FRONT, 13.0), attention.unseen_s(YARD, 13.0)) == (3.0, 2.0)


def test_a_new_camera_is_looked_at_as_if_a_face_had_been_there() -> None:
    attention = LastFaceTimes(max_cameras=1)
    assert attention.unseen_s(FRONT, 5.0) == 0.0
    attention.note(FRONT, 0, 5.0)
    attention.note(YARD, 0, 6.0)  # of too many the first is forgotten
    assert attention.unseen_s(FRONT, 70.0) == 0.0


@pytest.mark.parametrize("faces", [0, 1])
def test_where_something_may_be_a_face_each_frame_is_worth_a_look(faces: int) -> None:
    assert next_look_s(LookSummary(faces, LONG_S, 1.0, is_still=True, is_in_doubt=True), 10.0) < 0.01
