import math

import pytest

from services.store.lanes import LOUD_AT, LOUD_AT_WORK, LOUD_S, MOST_LANES, WITHIN_S, Lanes, lane_of


def flood(lanes: Lanes, device: str, now_s: float) -> None:
    for _ in range(LOUD_AT):
        lanes.turned_away(device, now_s)


def test_nobody_has_a_lane_while_nobody_floods() -> None:
    lanes = Lanes()
    lanes.let_in("porch")
    for _ in range(LOUD_AT - 1):
        lanes.turned_away("loud", 0.0)
    assert lanes.wanted(0.0) == frozenset()


def test_whoever_was_heard_of_gets_past_a_flood_but_not_the_one_that_floods() -> None:
    lanes = Lanes()
    for device in ("porch", "yard", "loud"):
        lanes.let_in(device)
    flood(lanes, "loud", 0.0)
    assert lanes.wanted(0.0) == {"porch", "yard"}
    assert lanes.loud == {"loud"}
    flood(lanes, "yard", 1.0)
    assert lanes.wanted(1.0) == {"porch"}


def test_a_few_turned_away_now_and_then_are_no_flood() -> None:
    lanes = Lanes()
    lanes.let_in("porch")
    for number in range(100):
        for _ in range(LOUD_AT // 2):
            lanes.turned_away("loud", number * (WITHIN_S + 0.1))
        assert not lanes.wanted(number * (WITHIN_S + 0.1))


def test_a_flood_is_over_when_there_was_none_for_a_while() -> None:
    lanes = Lanes()
    lanes.let_in("porch")
    flood(lanes, "loud", 0.0)
    flood(lanes, "loud", LOUD_S - 1)
    assert lanes.wanted(2 * LOUD_S - 2) == {"porch"}
    assert lanes.wanted(2 * LOUD_S) == frozenset()


def test_of_a_device_that_floods_few_are_written_at_a_time_if_there_are_others() -> None:
    lanes = Lanes()
    lanes.let_in("loud")
    flood(lanes, "loud", 0.0)
    assert lanes.most_at_work("loud") == math.inf
    lanes.let_in("porch")
    assert lanes.most_at_work("loud") == LOUD_AT_WORK
    assert lanes.most_at_work("porch") == math.inf
    lanes.wanted(LOUD_S)
    assert lanes.most_at_work("loud") == math.inf


def test_only_what_can_name_a_device_has_a_lane() -> None:
    lanes = Lanes()
    for text in ("", "a b", "_store", "é", "porch"):
        lanes.let_in(text)
    flood(lanes, "", 0.0)
    assert lanes.wanted(0.0) == {"porch"}


def test_of_many_devices_those_heard_of_last_have_lanes() -> None:
    lanes = Lanes()
    lanes.let_in("porch")
    for number in range(2 * MOST_LANES):
        lanes.let_in(f"device-{number}")
        lanes.let_in("porch")
    flood(lanes, "loud", 0.0)
    wanted = lanes.wanted(0.0)
    assert len(wanted) == MOST_LANES
    assert {"porch", f"device-{2 * MOST_LANES - 1}"} <= wanted


def test_names_do_not_pile_up() -> None:
    lanes = Lanes()
    for number in range(20_000):
        lanes.turned_away(f"some-{number}", number * 0.01)
        flood(lanes, f"loud-{number}", number * 0.01)
        if number % 25 == 0:
            lanes.wanted(number * 0.01)
    assert len(lanes) < 2 * (LOUD_S / 0.01 + WITHIN_S / 0.01)


@pytest.mark.parametrize(
    ("filters", "lanes"),
    [
        (["$share/g/faceferry/+/+/face", "$share/g/test_topic"], ["$share/g/faceferry/porch/+/face"]),
        (["$share/g/faceferry/+/front/face"], ["$share/g/faceferry/porch/front/face"]),
        (["$share/g/faceferry/+/#"], ["$share/g/faceferry/porch/#"]),
        (["$share/g/faceferry/yard/+/face", "$share/g/#", "$share/g/+/+/+/face"], []),
    ],
    ids=lambda filters: " ".join(filters) or "none",
)
def test_a_lane_brings_what_the_stores_own_filters_bring_and_no_more(
    filters: list[str], lanes: list[str]
) -> None:
    assert lane_of(filters, "porch") == lanes
