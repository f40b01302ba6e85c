from dataclasses import replace

import pytest

from tests.rigs.recall.trials import FRAMES_PER_S, LEAST_PX, MOST_PX, trial
from tests.rigs.recall.watched import LATEST_S, LEAST_VISIT_S, SEEN, Outcome

TRIALS = [trial(number, seed=1, clips=5, cast=10) for number in range(300)]
FOUND = Outcome(TRIALS[0], every_s=(1.0, 1.0 + LEAST_VISIT_S), times=SEEN, found_s=1.0)


def test_a_trial_is_the_same_each_time_and_no_two_are_alike() -> None:
    assert trial(7, seed=1, clips=5, cast=10) == TRIALS[7]
    assert trial(7, seed=2, clips=5, cast=10) != TRIALS[7]
    assert len({each.place for each in TRIALS}) == len(TRIALS)


def test_faces_of_all_sizes_stand_walk_and_run_before_every_clip() -> None:
    sizes = [each.face_px * 640 / each.size[0] for each in TRIALS]
    assert LEAST_PX <= min(sizes) < 1.2 * LEAST_PX
    assert MOST_PX / 1.2 < max(sizes) <= MOST_PX
    assert {each.act for each in TRIALS} == {"stands", "walks", "runs"}
    assert {each.clip for each in TRIALS} == set(range(5))
    assert max(abs(each.speed[0]) / each.face_px for each in TRIALS) > 25
    assert min(each.goes_s - each.comes_s for each in TRIALS) >= LEAST_VISIT_S


def test_somebody_is_there_from_when_they_come_until_they_go() -> None:
    one = TRIALS[0]
    assert one.at(one.comes_s - 1 / FRAMES_PER_S) is None
    assert one.at(one.comes_s) == one.place
    assert one.at(one.goes_s) is None


@pytest.mark.parametrize(
    ("change", "is_missed"),
    [
        ({}, False),
        ({"found_s": None}, True),
        ({"found_s": 1.0 + LATEST_S}, False),
        ({"found_s": 1.01 + LATEST_S}, True),
        ({"found_s": None, "times": SEEN - 1}, False),
        ({"found_s": None, "every_s": (1.0, 0.9 + LEAST_VISIT_S)}, False),
        ({"found_s": None, "every_s": None, "times": 0}, False),
    ],
    ids=str,
)
def test_missed_is_who_makes_a_visit_and_is_not_found_in_time(
    change: dict[str, object], is_missed: bool
) -> None:
    assert replace(FOUND, **change).is_missed == is_missed  # type: ignore[arg-type]
