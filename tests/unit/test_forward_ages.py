"""Ages of faces on clocks that are set while faces wait."""

from hypothesis import given
from hypothesis import strategies as st

from services.forward.spool.expiry import RIGHT_SINCE_S, FaceAges, waited_s

NOW_S = RIGHT_SINCE_S + 86_400.0 * 500
IN_1970_S = 5.0


def test_a_face_s_age_is_that_of_the_steady_clock_whatever_the_other_shows() -> None:
    ages = FaceAges(0, steady_s=100)
    ages.came(1, 110)
    for held_since_s, wall_s in ((IN_1970_S, NOW_S), (NOW_S, NOW_S - 3600), (NOW_S, IN_1970_S)):
        assert ages.oldest_s(1, held_since_s, wall_s, 125) == 15


def test_the_oldest_s_age_follows_the_oldest() -> None:
    ages = FaceAges(0, steady_s=0)
    for sequence in range(1, 11):
        ages.came(sequence, sequence * 10)
    assert ages.oldest_s(1, NOW_S, NOW_S, 200) == 190
    assert ages.oldest_s(7, NOW_S, NOW_S, 200) == 130
    assert ages.oldest_s(10, NOW_S, NOW_S, 200) == 100


def test_of_what_was_there_at_the_start_the_wall_clock_of_the_start_tells() -> None:
    ages = FaceAges(5, steady_s=1000)
    assert ages.oldest_s(3, NOW_S - 600, NOW_S, 1000) == 600
    # Set by an hour since, either way.
    assert ages.oldest_s(3, NOW_S - 600, NOW_S + 3600 + 10, 1010) == 610
    assert ages.oldest_s(3, NOW_S - 600, NOW_S - 3600 + 10, 1010) == 610


def test_nothing_is_said_of_before_the_start_where_a_clock_was_not_right() -> None:
    ages = FaceAges(5, steady_s=1000)
    assert ages.oldest_s(3, IN_1970_S, NOW_S, 1007) == 7
    assert ages.oldest_s(3, None, NOW_S, 1007) == 7


def test_a_clock_that_is_set_after_the_start_tells_of_what_was_there() -> None:
    ages = FaceAges(5, steady_s=1000)
    assert ages.oldest_s(3, NOW_S - 600, IN_1970_S, 1007) == 7
    assert ages.oldest_s(3, NOW_S - 600, NOW_S, 1010) == 600


def test_wall_clocks_tell_only_what_can_be() -> None:
    assert waited_s(NOW_S - 5, NOW_S) == 5
    assert waited_s(NOW_S + 5, NOW_S) is None
    assert waited_s(IN_1970_S, NOW_S) is None
    assert waited_s(None, NOW_S) is None


def test_a_backlog_of_months_takes_little_memory_and_keeps_its_age() -> None:
    ages = FaceAges(0, steady_s=0)
    for sequence in range(1, 200_001):
        ages.came(sequence, sequence * 60.0)
    assert len(ages._marks) < 5_000
    now_s = 200_000 * 60.0
    for sequence in (1, 10_000, 199_999):
        truth_s = now_s - sequence * 60
        assert truth_s <= ages.oldest_s(sequence, NOW_S, NOW_S, now_s) <= truth_s + now_s / 1000


_WALL = st.floats(0, 2 * NOW_S)


@given(
    at_start=st.integers(0, 5),
    events=st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1e4), _WALL, _WALL), max_size=40),
)
def test_no_age_is_below_0_or_jumps(at_start: int, events: list[tuple[int, float, float, float]]) -> None:
    ages, steady_s, newest = FaceAges(at_start, 50.0), 50.0, at_start
    for step, later_s, wall_s, held_since_s in events:
        newest += step
        ages.came(newest, steady_s)
        steady_s += later_s
        age_s = ages.oldest_s(newest, held_since_s, wall_s, steady_s)
        assert later_s - 0.001 <= age_s <= later_s + 1.001
