"""The judge of made visits is not to be fooled."""

from collections import Counter

from tests.rigs.people.judge import Watched, judge, whose
from tests.rigs.people.script import SCENE_S, scenes
from tests.rigs.people.stage import Shown
from tests.visits_rig import sight


def watched(person: str | None, visit: str, times: int = 3, *, wanted: int = 0) -> list[Watched]:
    return [Watched(person, visit, number < wanted) for number in range(times)]


def test_who_has_no_picture_is_named_by_what_they_did() -> None:
    found = judge([*watched("ann", "1", wanted=1), *watched("bob", "2")], {"ann": "walks", "bob": "runs"})
    assert (found.people, found.pictures, found.nobodies) == (2, 1, Counter(runs=1))


def test_who_was_hardly_seen_counts_nowhere() -> None:
    assert judge(watched("ann", "1", times=2), {"ann": "walks"}).people == 0


def test_one_person_with_two_visits_is_split() -> None:
    found = judge([*watched("ann", "1", wanted=1), *watched("ann", "2", wanted=1)], {"ann": "walks"})
    assert (found.split, found.merged, found.visits) == (1, 0, 2)


def test_two_people_in_one_visit_are_merged_unless_they_were_made_to_be() -> None:
    both = [*watched("ann", "1", wanted=1), *watched("bob", "1", wanted=1)]
    assert judge(both, {"ann": "crosses", "bob": "crosses"}).merged == 1
    assert judge(both, {"ann": "replaces", "bob": "replaces"}).merged == 0
    assert judge(both, {"ann": "replaces", "bob": "walks"}).merged == 1


def test_pictures_of_nobody_are_counted_apart() -> None:
    found = judge(watched(None, "1", wanted=2), {})
    assert (found.people, found.pictures, found.strangers) == (0, 0, 2)


def test_a_face_is_whose_it_fits_best() -> None:
    shown = [Shown("ann", (100.0, 100.0, 80.0, 80.0)), Shown("bob", (140.0, 100.0, 80.0, 80.0))]
    sights = [sight(135, 100, 80), sight(105, 100, 80), sight(600, 100, 80)]
    assert whose(sights, shown) == ["bob", "ann", None]


def test_a_seed_makes_the_same_scenes_and_all_acts() -> None:
    one, two = (list(scenes(3, 200, 10)) for _ in range(2))
    assert sum(len(scene.people) for scene in one) >= 200
    for scene, again in zip(one, two, strict=True):
        for person, other in zip(scene.people, again.people, strict=True):
            moments = [number / 10 for number in range(int(10 * SCENE_S))]
            assert [person.at(at_s) for at_s in moments] == [other.at(at_s) for at_s in moments]
    assert len({person.act for scene in one for person in scene.people}) == 8
