"""Which pictures of whom are wanted."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire.seen import SeenFace, WantedFace, Why
from services.common.wire.visits import Stage
from services.forward.visits.camera_visits import MAX_OPEN, CameraVisits, VisitRules, rules_at_fill
from services.forward.visits.matching import Appearance, difference
from services.forward.visits.quality import frontality, quality
from services.forward.visits.reordering import MOST_WAITING, PATIENCE_S, ReorderBuffer
from tests.visits_rig import ANN, BOB, HEIGHT, WIDTH, seen, sight

RULES = VisitRules()


def watch(looks: list[tuple[float, list[SeenFace]]], rules: VisitRules = RULES) -> list[WantedFace]:
    """What is wanted of a camera's frames, one after the other."""
    visits = CameraVisits()
    return [choice for at_s, sights in looks for choice in visits.look(seen(at_s, *sights), rules)]


def whys(choices: list[WantedFace]) -> list[Why]:
    return [choice.why for choice in choices]


def still(seconds: float, first_s: float = 0.0, each_s: float = 0.1) -> list[tuple[float, list[SeenFace]]]:
    return [(first_s + number * each_s, [sight()]) for number in range(round(seconds / each_s))]


def test_who_stands_still_is_one_visit_and_one_picture() -> None:
    assert whys(watch(still(60))) == [Why.FIRST]


def test_who_stays_for_long_begins_anew_where_that_is_asked_for() -> None:
    assert whys(watch(still(60), VisitRules(anew_s=25))) == [Why.FIRST] * 3


def test_each_of_those_who_are_there_at_once_is_wanted_at_once() -> None:
    [one, two] = watch([(0, [sight(100), sight(700)])])
    assert one.visit != two.visit
    assert (one.index, two.index) == (0, 1)


def test_who_comes_again_after_the_gap_is_another_visit() -> None:
    looks = [*still(1), *still(1, first_s=1 + RULES.gap_s + 0.1)]
    assert whys(watch(looks)) == [Why.FIRST, Why.FIRST]
    assert whys(watch([*still(1), *still(1, first_s=RULES.gap_s)])) == [Why.FIRST]


@pytest.mark.parametrize("speed", [50, 300, 1_000, 2_000])
@pytest.mark.parametrize("each_s", [1 / 25, 0.1])
def test_who_runs_is_one_visit(speed: float, each_s: float) -> None:
    """Looked at ten times a second, 2,000 pixels a second are 2.5 faces from one sight to the next."""
    count = min(int(1_100 / speed / each_s), 50)
    looks = [(number * each_s, [sight(50 + speed * each_s * number)]) for number in range(count)]
    choices = watch(looks)
    assert {choice.visit for choice in choices} == {choices[0].visit}
    assert Why.FIRST not in whys(choices)[1:]


def test_two_who_cross_stay_two() -> None:
    looks = []
    for number in range(30):
        right, left = sight(300 + 20 * number), sight(900 - 20 * number, looks=BOB)
        looks.append((number / 10, [right, left] if number % 2 else [left, right]))
    assert whys(watch(looks)) == [Why.FIRST, Why.FIRST]


def test_better_is_wanted_by_the_factor_and_not_too_soon() -> None:
    def shots(*qualities: tuple[float, float]) -> list[Why]:
        return whys(watch([(at_s, [sight(sharpness=sharp)]) for at_s, sharp in qualities]))

    assert shots((0, 40), (0.1, 41), (0.4, 42)) == [Why.FIRST]
    assert shots((0, 40), (0.4, 120)) == [Why.FIRST, Why.BETTER]
    assert shots((0, 40), (0.1, 120), (0.2, 120)) == [Why.FIRST]  # it will be there a moment later, too
    assert shots((0, 40), (0.1, 120), (0.4, 119)) == [Why.FIRST, Why.BETTER]


def test_a_visit_has_no_more_pictures_than_allowed() -> None:
    looks = [(number / 2, [sight(size=20 * 1.1**number, sharpness=10 + 9 * number)]) for number in range(30)]
    assert len(watch(looks, VisitRules(most_shots=99))) > RULES.most_shots
    assert len(watch(looks)) == RULES.most_shots
    assert [choice.shot for choice in watch(looks)] == list(range(1, RULES.most_shots + 1))


def test_who_takes_anothers_place_has_a_picture_of_their_own() -> None:
    for gap_s in (0.0, 0.1, 0.5, 1.5):
        good, bad = sight(sharpness=300), sight(sharpness=20, looks=BOB)
        looks = [(number / 10, [good]) for number in range(10)]
        looks += [(1 + gap_s + number / 10, [bad]) for number in range(10)]
        choices = watch(looks)
        assert [choice.why for choice in choices] in ([Why.FIRST, Why.CHANGED], [Why.FIRST, Why.BACK]), gap_s


def test_a_better_one_is_no_later_one_while_the_last_has_not_come() -> None:
    """The first may have died with a detect; then this is the only one."""
    live = VisitRules(missing_s=2.0)
    for came in (False, True):
        visits = CameraVisits()
        [first] = visits.look(seen(0, sight(sharpness=40)), live)
        if came:
            visits.picture_arrived(first.visit, "1", "a picture")
        [second] = visits.look(seen(0.4, sight(sharpness=120)), live)
        assert second.why == (Why.BETTER if came else Why.MISSING)


def test_doubt_is_not_bound_by_the_most_shots() -> None:
    looks = [(number / 10, [sight(looks=ANN if number % 2 else BOB)]) for number in range(20)]
    assert len(watch(looks, VisitRules(most_shots=3))) == 20


def test_a_picture_that_does_not_come_is_wanted_again() -> None:
    visits, rules = CameraVisits(), VisitRules(missing_s=2.0)
    [first] = visits.look(seen(0, sight()), rules)
    assert visits.look(seen(1.9, sight()), rules) == []
    [second] = visits.look(seen(2.1, sight()), rules)
    assert (second.why, second.visit, second.shot) == (Why.MISSING, first.visit, 2)
    assert visits.picture_arrived(second.visit, "2", "a picture") is not None
    assert [visits.look(seen(2.1 + number, sight()), rules) for number in (1, 2, 3)] == [[], [], []]


def test_a_clock_that_is_set_back_loses_nobody() -> None:
    assert whys(watch([*still(1, first_s=1_000), *still(1)])) == [Why.FIRST, Why.FIRST]


def test_frames_a_little_out_of_order_make_no_more_visits() -> None:
    looks = [(number / 25, [sight(100 + 10 * number)]) for number in range(50)]
    chance = random.Random(1)
    late = sorted(looks, key=lambda look: look[0] + chance.uniform(0, 0.1))
    assert whys(watch(late)).count(Why.FIRST) == 1


def test_open_visits_are_bounded() -> None:
    visits = CameraVisits()
    for number in range(20):
        crowd = [
            sight(200.0 * x + number, 200.0 * y, 20) for x in range(10) for y in range(number, number + 10)
        ]
        visits.look(seen(number / 100, *crowd), RULES)
    assert len(visits) <= MAX_OPEN


def test_a_full_spool_wants_less_but_never_nobody() -> None:
    assert rules_at_fill(RULES, 0.4) == RULES
    assert rules_at_fill(RULES, 0.6).better > RULES.better
    looks = [(float(number), [sight(size=20 + 5 * number)]) for number in range(10)]
    assert whys(watch(looks, rules_at_fill(RULES, 0.9))) == [Why.FIRST]
    other = [(10.0, [sight(size=70, looks=BOB)])]
    assert whys(watch([*looks, *other], rules_at_fill(RULES, 0.9))) == [Why.FIRST, Why.CHANGED]


numbers = st.floats(-1_000, 3_000)


@given(
    x=numbers,
    y=numbers,
    size=st.floats(1, 3_000),
    score=st.floats(0, 1),
    sharpness=st.floats(0, 1e5),
    aside=st.floats(-3, 3),
)
def test_quality_is_a_share(**given_sight: float) -> None:
    assert 0 < quality(sight(**given_sight), WIDTH, HEIGHT) <= 1  # type: ignore[arg-type]


def test_quality_prefers_what_people_prefer() -> None:
    def rated(**change: float) -> float:
        return quality(sight(**change), WIDTH, HEIGHT)  # type: ignore[arg-type]

    for better, worse in pairwise([{"aside": 0.0}, {"aside": 0.1}, {"aside": 0.3}]):
        assert rated(**better) > rated(**worse)
    assert rated(size=120) > rated(size=60)
    assert rated(score=0.95) > rated(score=0.75)
    assert rated(sharpness=100) > rated(sharpness=20)
    assert rated(x=300) > rated(x=-20)  # cut off


@given(turn=st.floats(-1.5, 1.5))
def test_a_tilted_head_still_looks_at_us(turn: float) -> None:
    def turned(x: float, y: float) -> tuple[float, float]:
        return x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)

    points = [turned(*point) for point in ((-10, 0), (10, 0), (0, 10), (-8, 20), (8, 20))]
    assert frontality([value for point in points for value in point]) == pytest.approx(1)


def test_two_people_differ_and_one_does_not() -> None:
    ann, bob = Appearance.of(ANN), Appearance.of(BOB)
    assert difference(ann, ann) == pytest.approx(0)
    assert difference(ann, bob) > 1
    assert difference(ann, None) == 0
    flat = Appearance.of(bytes([100] * 192))
    assert difference(flat, flat) == 0


@given(order=st.permutations(range(12)), gaps=st.sets(st.integers(1, 10)))
def test_a_recording_is_put_into_order(order: list[int], gaps: set[int]) -> None:
    """Whatever numbers are missing, and in whatever order they come."""
    numbers = [number for number in range(12) if number not in gaps]
    before = dict(zip(numbers[1:], numbers, strict=False))
    questions = {n: seen(n / 10, number=n, after=before.get(n), paced=True) for n in numbers}
    kept = ReorderBuffer()
    arrivals = [number for number in order if number in questions]
    arrivals.remove(0)
    through = [each for number in (0, *arrivals) for each in kept.put(questions[number], 0.0)]
    assert [each.sequence for each in through] == numbers


def test_what_never_comes_is_waited_for_so_long_and_no_longer() -> None:
    kept = ReorderBuffer()
    assert kept.put(seen(0, number=0), 0.0)
    assert not kept.put(seen(0.2, number=2, after=1), 1.0)
    assert not kept.put(seen(0.3, number=3, after=2), 2.0)
    assert not kept.overdue(PATIENCE_S + 0.9)
    assert [each.sequence for each in kept.overdue(PATIENCE_S + 1)] == [2, 3]
    # And comes after all: another detect has it.
    assert [each.sequence for each in kept.put(seen(0.1, number=1, after=0), 9.0)] == [1]


def test_what_waits_is_bounded() -> None:
    kept = ReorderBuffer()
    kept.put(seen(0, number=0), 0.0)
    through = [kept.put(seen(0, number=n, after=n - 1), 0.0) for n in range(2, MOST_WAITING + 10)]
    assert sum(map(len, through)) > 0


def test_a_visit_is_told_of_when_its_pictures_come_and_when_it_is_over() -> None:
    visits = CameraVisits()
    [first] = visits.look(seen(0, sight(sharpness=20)), RULES)
    [better] = visits.look(seen(1, sight(sharpness=120)), RULES)
    assert visits.picture_arrived("another", "1", "x") is None
    assert visits.picture_arrived(first.visit, "3", "x") is None  # never wanted
    assert visits.picture_arrived(first.visit, "one", "x") is None
    began = visits.picture_arrived(first.visit, "1", "a")
    came = visits.picture_arrived(better.visit, "2", "b")
    assert visits.picture_arrived(better.visit, "2", "b") is None  # once more
    assert began is not None
    assert came is not None
    assert (began.stage, began.picture, began.shot, began.people) == (Stage.BEGAN, "a", 1, 1)
    assert (came.stage, came.picture, came.shot) == (Stage.BETTER, "b", 2)
    assert (came.seen - came.began).total_seconds() == pytest.approx(1)
    at_s = seen(1).time.timestamp()
    assert visits.end(at_s + RULES.gap_s, RULES) == []
    [ended] = visits.end(at_s + RULES.gap_s + 0.1, RULES)
    assert (ended.stage, ended.picture, ended.people) == (Stage.ENDED, "b", 0)
    assert visits.end(at_s + 99, RULES) == []


def test_who_has_no_picture_is_not_told_of() -> None:
    visits = CameraVisits()
    visits.look(seen(0, sight()), RULES)
    assert visits.close() == []
    assert len(visits) == 0
