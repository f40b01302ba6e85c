import contextlib
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.masking import hidden, hide
from services.common.wire.frames import Frame, decode_frame, encode_frame
from services.common.wire.scope import (
    WHOLE,
    WHOLE_SIDE,
    Mask,
    Scope,
    least_face_from_wire,
    mask_from_wire,
    mask_to_wire,
    read_mask,
)
from services.common.wire.topics import Source
from tests.storing import with_attribute

LEFT_THIRD = read_mask("0,0,0.3333,0,0.3333,1,0,1")
CORNERS = st.tuples(st.integers(0, WHOLE_SIDE), st.integers(0, WHOLE_SIDE))
POLYGONS = st.lists(CORNERS, min_size=3, max_size=8).filter(
    lambda corners: all(len({corner[axis] for corner in corners}) > 1 for axis in (0, 1))
)
MASKS = st.lists(POLYGONS.map(tuple), min_size=1, max_size=4).map(tuple)


def is_mask(text: str) -> bool:
    try:
        read_mask(text)
    except ValueError:
        return False
    return True


def frame(scope: Scope = WHOLE) -> Frame:
    return Frame(Source("porch", "front"), 7, datetime(2026, 1, 31, tzinfo=UTC), b"jpeg", scope=scope)


@pytest.mark.parametrize(
    "text",
    ["", "0,0,1,0", "0,0,1,0,1", "0,0,1.1,0,1,1", "-0.1,0,1,0,1,1", "a,b,c,d,e,f", "0,0,nan,0,1,1",
     "0,0,1,0,0.5,0", ";", "0,0,1,0,1,1;", "0 0 1 0 1 1", "0,0,1e-9,1,0,1"],
)  # fmt: skip
def test_what_hides_nothing_is_no_mask(text: str) -> None:
    assert not is_mask(text)


@given(MASKS)
def test_a_mask_goes_over_the_wire_as_it_is(mask: Mask) -> None:
    assert mask_from_wire(mask_to_wire(mask)) == mask
    sent = frame(Scope(mask, 80))
    assert decode_frame(encode_frame(sent)) == sent


def test_a_frame_of_a_camera_without_a_mask_says_nothing_of_it() -> None:
    names = {name for name, _ in encode_frame(frame()).attributes}
    assert not names & {"mask", "minface"}
    assert decode_frame(encode_frame(frame())).scope == WHOLE


@given(st.text(max_size=40))
def test_a_frame_whose_mask_cannot_be_read_is_not_looked_at(text: str) -> None:
    for name in ("mask", "minface"):
        message = with_attribute(encode_frame(frame()), name, text)
        with contextlib.suppress(Refused):
            scope = decode_frame(message).scope
            assert (scope == WHOLE) == (name == "minface" and not text.strip("0"))


@pytest.mark.parametrize(
    "text", ["20000,0,1,1,2,2", "1,1,2,2", "1,1,2,2,3", ",".join(["1,2"] * 65), "1,1,1,2,1,3"]
)
def test_hostile_masks_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        mask_from_wire(text)
    with pytest.raises(Refused):
        mask_from_wire(";".join(["0,0,9,0,9,9"] * 17))
    with pytest.raises(Refused):
        least_face_from_wire("99999")


def test_a_third_of_a_picture_is_hidden_and_no_more_than_its_edge_beside_it() -> None:
    dark = hidden(LEFT_THIRD, 300, 90)
    assert dark[:, :100].all()
    assert not dark[:, 102:].any()


@settings(max_examples=300)
@given(mask=MASKS, width=st.integers(1, 90), height=st.integers(1, 90))
def test_each_point_that_a_polygon_goes_round_is_hidden(mask: Mask, width: int, height: int) -> None:
    """A slow and simple rule beside the fast one: the winding number of each pixel's centre."""
    dark = hidden(mask, width, height)
    for row in range(0, height, 7):
        for column in range(0, width, 7):
            x, y = (column + 0.5) / width * WHOLE_SIDE, (row + 0.5) / height * WHOLE_SIDE
            if any(winding(polygon, x, y) for polygon in mask):
                assert dark[row, column]


@settings(max_examples=100)
@given(mask=MASKS)
def test_nothing_far_from_every_polygon_is_hidden(mask: Mask) -> None:
    dark = hidden(mask, 64, 64)
    for polygon in mask:
        xs, ys = zip(*polygon, strict=True)
        left, right = min(xs) * 64 // WHOLE_SIDE - 2, max(xs) * 64 // WHOLE_SIDE + 3
        top, bottom = min(ys) * 64 // WHOLE_SIDE - 2, max(ys) * 64 // WHOLE_SIDE + 3
        alone = hidden((polygon,), 64, 64).copy()
        alone[max(top, 0) : bottom, max(left, 0) : right] = False
        assert not alone.any()
    assert (dark == np.logical_or.reduce([hidden((polygon,), 64, 64) for polygon in mask])).all()


def winding(polygon: tuple[tuple[int, int], ...], x: float, y: float) -> int:
    turns = 0
    for (from_x, from_y), (to_x, to_y) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (from_y <= y) != (to_y <= y):
            crossed = from_x + (y - from_y) * (to_x - from_x) / (to_y - from_y)
            if crossed <= x:
                turns += 1 if to_y > from_y else -1
    return turns


def test_what_is_hidden_is_black_and_the_rest_as_it_was() -> None:
    picture = np.random.default_rng(1).integers(1, 256, (90, 300, 3), np.uint8)
    before = picture.copy()
    shown = hide(picture, LEFT_THIRD)
    assert not shown[:, :100].any()
    assert (shown[:, 102:] == before[:, 102:]).all()
    assert (picture == before).all()
    assert hide(picture, ()) is picture


def test_a_star_has_no_hole() -> None:
    star = read_mask("0.5,0,0.8,1,0,0.4,1,0.4,0.2,1")
    assert hidden(star, 100, 100)[50, 50]
