"""What the benchmark of looks makes of scenes: visits that are found late, badly, twice or not at all."""

from dataclasses import replace

import pytest

from services.common.wire.seen import SeenFace, View
from tests.rigs.looks.rehearsal import Moment, Rehearsal, Sighting, rehearse
from tests.rigs.looks.script import STREET_S, street
from tests.rigs.looks.verdict import Outcome, compare
from tests.visits_rig import HEIGHT, WIDTH, sight

FPS = 30


def scene(seconds: float, *, comes_s: float = 0.0, goes_s: float = 99.0) -> list[Moment]:
    """A camera before which Ann stands for a while."""
    return [_moment(number / FPS, comes_s, goes_s) for number in range(int(seconds * FPS))]


def _moment(at_s: float, comes_s: float, goes_s: float) -> Moment:
    sights: tuple[SeenFace, ...] = (sight(),) if comes_s <= at_s < goes_s else ()
    return Moment(at_s, View(WIDTH, HEIGHT, sights), ("ann",) * len(sights))


def rehearsed(*sightings: Sighting) -> Rehearsal:
    return Rehearsal(30, len(sightings), 10.0, sightings)


def seen(at_s: float, quality: float = 0.5, *, visit: str = "1", is_wanted: bool = False) -> Sighting:
    return Sighting("ann", at_s, visit, quality, is_wanted)


EVERY = rehearsed(seen(0.0, is_wanted=True), seen(0.2, 0.8, is_wanted=True), seen(0.3))
"""Ten frames a second."""


def test_each_frame_is_looked_at_where_that_is_asked_for() -> None:
    assert rehearse(scene(1), 0.0).looks == FPS


def test_an_empty_scene_is_looked_at_five_times_a_second_and_a_still_one_four() -> None:
    empty = scene(10, comes_s=99)
    assert 45 <= rehearse(empty, 10.0).looks <= 51
    still = [replace(moment, is_still=True) for moment in empty]
    assert 33 <= rehearse(still, 10.0).looks <= 43


def test_who_appears_is_looked_at_again_at_once_and_less_later() -> None:
    sightings = rehearse(scene(6, comes_s=1.0), 10.0).sightings
    at_s = [each.at_s for each in sightings]
    assert at_s[0] <= 1.3
    assert at_s[3] - at_s[0] <= 0.25  # answers take a frame
    assert len([each for each in at_s if each > 5]) <= 6


@pytest.mark.parametrize("lead_s", [0.0, 0.06, 0.12, 0.18])
def test_a_visit_of_a_third_of_a_second_is_found_whenever_it_begins(lead_s: float) -> None:
    for comes in range(30):
        moments = scene(2, comes_s=0.2 + comes / 100, goes_s=0.5 + comes / 100)
        outcome = compare(rehearse(moments, 0.0), rehearse(moments, 10.0, lead_s))
        assert not outcome.missed


def test_the_same_is_no_worse() -> None:
    outcome = compare(EVERY, EVERY)
    assert outcome == Outcome(visits=1, late_s=(0.0,), shares=(1.0,), looks=3, frames=30)


def test_a_visit_without_a_picture_is_missed() -> None:
    assert compare(EVERY, rehearsed(seen(0.2))).missed == ("ann",)
    assert compare(EVERY, rehearsed()).missed == ("ann",)


def test_who_is_seen_for_less_than_a_third_of_a_second_in_all_may_be_missed() -> None:
    short = rehearsed(seen(0.0, is_wanted=True), seen(1.2))
    assert compare(short, rehearsed()).visits == 0


def test_later_and_worse_pictures_and_split_visits_are_told() -> None:
    outcome = compare(EVERY, rehearsed(seen(0.1, 0.4, is_wanted=True), seen(0.3, visit="2", is_wanted=True)))
    assert (outcome.late_s, outcome.split) == ((0.1,), 1)
    assert list(outcome.shares) == pytest.approx([0.625])


def test_a_street_has_people_all_the_time() -> None:
    people = street(1, 10).people
    for tenth in range(int(STREET_S * 10)):
        assert sum(person.at(tenth / 10) is not None for person in people) >= 4
