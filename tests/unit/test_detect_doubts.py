import numpy as np
import pytest

from services.detect.boxes import NO_BOXES, Floats
from services.detect.regions_of_interest import (
    DOUBT_S,
    HASTE_S,
    KNOWN_S,
    MOST_DOUBTS,
    doubtful_after,
    is_urgent,
    open_places,
)

CLOCK = (400.0, 300.0, 60.0, 60.0)
FAR = (900.0, 300.0, 60.0, 60.0)


def boxes(*each: tuple[float, ...]) -> Floats:
    return np.array(each, np.float32).reshape(-1, 4)


def test_what_looks_a_little_like_a_face_is_worth_a_look_for_a_second() -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    assert open_places(doubts, 100.0 + 0.9 * DOUBT_S).tolist() == [list(CLOCK)]
    assert len(open_places(doubts, 100.0 + DOUBT_S)) == 0


def test_what_goes_on_looking_so_is_worth_no_more() -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    for at_s in np.arange(100.1, 110.0, 0.1):
        doubts = doubtful_after(doubts, boxes(CLOCK), float(at_s))
    assert len(doubts) == 1
    assert len(open_places(doubts, 110.0)) == 0


def test_one_that_moves_is_the_same_and_another_place_is_not() -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    moved = (CLOCK[0] + 10, *CLOCK[1:])
    doubts = doubtful_after(doubts, boxes(moved, FAR), 100.5)
    assert [(each.box, each.since_s) for each in doubts] == [(moved, 100.0), (FAR, 100.5)]


@pytest.mark.parametrize(("gone_s", "is_worth_it"), [(KNOWN_S - 1, False), (KNOWN_S + 1, True)])
def test_one_that_was_gone_for_long_is_worth_a_look_again(gone_s: float, is_worth_it: bool) -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    doubts = doubtful_after(doubts, NO_BOXES, 100.0 + gone_s)
    doubts = doubtful_after(doubts, boxes(CLOCK), 100.1 + gone_s)
    assert (len(open_places(doubts, 100.1 + gone_s)) == 1) == is_worth_it


def test_what_touches_a_face_is_worth_a_look_and_no_haste() -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    beside = (CLOCK[0] + CLOCK[2] - 1, *CLOCK[1:])
    assert len(open_places(doubts, 100.0)) == 1
    assert not is_urgent(doubts, boxes(beside), 100.0)
    assert not is_urgent(doubts, boxes(FAR, beside), 100.0)


@pytest.mark.parametrize("known", [(), (FAR,), (FAR, (0.0, 0.0, 60.0, 60.0))])
def test_what_is_beside_everybody_is_urgent(known: tuple[tuple[float, ...], ...]) -> None:
    assert is_urgent(doubtful_after((), boxes(CLOCK), 100.0), boxes(*known), 100.0)


def test_where_nothing_is_doubtful_nothing_is_urgent() -> None:
    assert not is_urgent((), boxes(FAR), 100.0)
    assert not is_urgent((), NO_BOXES, 100.0)


def test_the_more_are_known_the_sooner_a_doubt_is_urgent_no_more() -> None:
    doubts = doubtful_after((), boxes(CLOCK), 100.0)
    crowd = boxes(*((100.0 * n, 0.0, 60.0, 60.0) for n in range(6)))
    assert is_urgent(doubts, crowd, 100.0 + HASTE_S / 7)
    assert not is_urgent(doubts, crowd, 100.0 + HASTE_S / 6)
    assert is_urgent(doubts, crowd[:1], 100.0 + HASTE_S / 6)
    assert not is_urgent(doubts, NO_BOXES, 100.0 + DOUBT_S)


def test_of_many_those_of_now_are_kept() -> None:
    before = doubtful_after((), boxes(*((100.0 * n, 0.0, 9.0, 9.0) for n in range(MOST_DOUBTS))), 100.0)
    now = boxes(*((100.0 * n, 500.0, 9.0, 9.0) for n in range(5)))
    doubts = doubtful_after(before, now, 100.1)
    assert len(doubts) == MOST_DOUBTS
    assert [each.seen_s for each in doubts[:6]] == [100.1] * 5 + [100.0]
