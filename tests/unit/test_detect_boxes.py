from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from services.detect.boxes import (
    LEAST_SHRUNK,
    Detections,
    Floats,
    Letterbox,
    clip_box,
    crop_rectangle,
    suppress,
)
from tests.detect_clips import overlaps

SIDE = st.integers(16, 8000)
SIZE = st.sampled_from([0, 320, 640, 1280])
COORDINATE = st.floats(-500, 9000, width=32)
LENGTH = st.floats(0.5, 4000, width=32)
BOX = st.tuples(COORDINATE, COORDINATE, LENGTH, LENGTH).map(lambda box: np.array(box, np.float32))


@given(SIDE, SIDE, SIZE, st.floats(0, 1), st.floats(0, 1))
def test_a_point_comes_back_within_a_pixel(width: int, height: int, size: int, u: float, v: float) -> None:
    box = Letterbox.fit(width, height, size)
    point = np.array([u * width, v * height])
    on_canvas = (point / box.to_source).astype(np.float32)
    assert np.abs(on_canvas * box.to_source - point).max() < 1
    assert (on_canvas <= np.array([box.width, box.height]) * 1.0001).all()


@given(SIDE, SIDE, SIZE)
def test_canvas_holds_the_scaled_frame_and_little_more(width: int, height: int, size: int) -> None:
    box = Letterbox.fit(width, height, size)
    assert box.canvas_width % 32 == 0
    assert box.canvas_height % 32 == 0
    assert 0 <= box.canvas_width - box.width < 32
    assert 0 <= box.canvas_height - box.height < 32


@given(SIDE, SIDE, st.sampled_from([320, 640, 1280]))
def test_aspect_ratio_and_size_are_kept(width: int, height: int, size: int) -> None:
    box = Letterbox.fit(width, height, size)
    scale_x, scale_y = box.width / width, box.height / height
    assert abs(scale_x - scale_y) <= 1 / min(width, height)
    assert max(box.width, box.height) <= size
    assert max(box.width, box.height) >= min(size, 2 * max(width, height)) * LEAST_SHRUNK - 1


def test_full_size_is_not_scaled() -> None:
    assert Letterbox.fit(1920, 1080, 0) == Letterbox(1920, 1080, 1920, 1080, 1920, 1088)


def test_a_row_of_blocks_is_saved_where_it_costs_little() -> None:
    assert Letterbox.fit(1920, 1080, 640) == Letterbox(1920, 1080, 626, 352, 640, 352)
    assert Letterbox.fit(640, 480, 640) == Letterbox(640, 480, 640, 480, 640, 480)


@given(BOX, st.floats(0, 4), SIDE, SIDE)
def test_crop_never_leaves_the_frame(box: Floats, margin: float, width: int, height: int) -> None:
    crop = crop_rectangle(box, margin, width, height)
    if crop is not None:
        assert 0 <= crop.x < crop.x + crop.width <= width
        assert 0 <= crop.y < crop.y + crop.height <= height


@given(BOX, st.floats(0, 4), SIDE, SIDE)
def test_crop_holds_its_box(box: Floats, margin: float, width: int, height: int) -> None:
    inner, outer = clip_box(box, width, height), crop_rectangle(box, margin, width, height)
    if inner is not None:
        assert outer is not None
        assert outer.x <= inner.x
        assert outer.y <= inner.y
        assert outer.x + outer.width >= inner.x + inner.width
        assert outer.y + outer.height >= inner.y + inner.height


def test_margin_is_a_part_of_the_box_on_each_side() -> None:
    assert crop_rectangle(np.array([100, 100, 40, 80], np.float32), 0.25, 640, 480) == (90, 80, 60, 120)


def test_box_in_the_padding_is_no_face() -> None:
    assert clip_box(np.array([10, 485, 20, 20], np.float32), 640, 480) is None


def found(boxes: Floats, scores: Floats) -> Detections:
    return Detections(boxes, scores, np.zeros((len(boxes), 5, 2), np.float32))


@st.composite
def crowds(draw: st.DrawFn) -> Detections:
    count = draw(st.integers(0, 40))
    boxes = draw(nps.arrays(np.float32, (count, 4), elements=st.floats(1, 60, width=32)))
    scores = draw(nps.arrays(np.float32, count, elements=st.sampled_from([0.75, 0.8125, 0.875, 1.0])))
    return found(boxes, scores)


@given(crowds())
def test_suppression_is_idempotent(crowd: Detections) -> None:
    once = suppress(crowd, 0)
    twice = suppress(once, 0)
    assert np.array_equal(once.boxes, twice.boxes)


@given(crowds(), st.randoms(use_true_random=False))
def test_suppression_does_not_depend_on_the_order(crowd: Detections, random: Random) -> None:
    order = list(range(len(crowd)))
    random.shuffle(order)
    shuffled = crowd.selected(np.array(order, np.intp))
    assert np.array_equal(suppress(crowd, 0).boxes, suppress(shuffled, 0).boxes)


@given(crowds())
def test_what_is_suppressed_overlaps_something_better(crowd: Detections) -> None:
    kept = suppress(crowd, 0)
    assert kept.scores is not None
    assert crowd.scores is not None
    assert (np.diff(kept.scores) <= 0).all()
    for index, box in enumerate(kept.boxes):
        rest = np.delete(kept.boxes, index, axis=0)
        assert (overlaps(box, rest) <= 0.3 + 1e-4).all()
    for box, score in zip(crowd.boxes, crowd.scores, strict=True):
        better = overlaps(box, kept.boxes)
        assert (better[kept.scores >= score] >= 0.3 - 1e-4).any()


def test_only_the_best_are_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 0, 10, 10], [90, 0, 10, 10]], np.float32)
    kept = suppress(found(boxes, np.array([0.7, 0.9, 0.8], np.float32)), 2)
    assert kept.boxes[:, 0].tolist() == [50, 90]


def test_small_faces_are_left_out() -> None:
    crowd = found(np.array([[0, 0, 30, 19], [0, 0, 20, 20]], np.float32), np.ones(2, np.float32))
    assert crowd.large_enough(20).tolist() == [1]
    assert len(found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)).large_enough(20)) == 0
