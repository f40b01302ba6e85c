"""How often the visits before a camera need a look."""

import pytest

from services.common.wire.seen import MOST_HASTE, SeenFace
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from services.forward.visits.look_rate import LEAVING, RESTING
from tests.visits_rig import WIDTH, seen, sight


def haste_after(looks: list[tuple[float, list[SeenFace]]]) -> float:
    """The haste that the last of a camera's frames is answered with."""
    visits = CameraVisits()
    for at_s, sights in looks:
        visits.look(seen(at_s, *sights), VisitRules())
    return visits.look_rate(seen(looks[-1][0], *looks[-1][1]))


def walking(widths_per_s: float, *, x: float = 300.0, count: int = 12) -> list[tuple[float, list[SeenFace]]]:
    size = 80.0
    return [(each / 10, [sight(x + widths_per_s * size * each / 10, size=size)]) for each in range(count)]


def test_a_face_that_is_new_needs_each_frame() -> None:
    assert haste_after(walking(0, count=1)) == MOST_HASTE
    assert haste_after(walking(0, count=2)) == MOST_HASTE


@pytest.mark.parametrize("speed", [0.6, 1, 3, 5])
def test_who_walks_needs_what_is_usual(speed: float) -> None:
    assert haste_after(walking(speed)) == 1.0


def test_the_faster_a_face_is_for_its_size_the_more_looks_it_needs() -> None:
    hastes = [haste_after(walking(speed, x=100, count=5)) for speed in (6, 10, 16)]
    assert hastes == sorted(hastes)
    assert hastes[-1] > 2 * hastes[0]


def test_who_is_about_to_leave_needs_more() -> None:
    assert haste_after(walking(2, x=WIDTH - 80 - 176 - 10)) == LEAVING


def test_who_stands_and_has_their_good_picture_needs_less() -> None:
    assert haste_after(walking(0, count=30)) == RESTING


def test_who_stands_and_has_none_yet_needs_what_is_usual() -> None:
    poor = [(each / 10, [sight(sharpness=2, score=0.55)]) for each in range(6)]
    assert haste_after(poor) == 1.0


def test_the_hastiest_of_those_in_view_counts() -> None:
    looks = [(at_s, [*sights, sight(x=100, y=10)]) for at_s, sights in walking(12, x=100, count=5)]
    assert haste_after(looks) > 1.5


def test_nobody_in_view_is_no_haste() -> None:
    visits = CameraVisits()
    assert visits.look_rate(seen(0.0)) == 1.0
