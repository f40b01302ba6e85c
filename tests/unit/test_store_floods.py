import math

import pytest

from services.store.floods import (
    FLOOD_AT,
    FLOOD_AT_WORK,
    FLOOD_S,
    MOST_LANES,
    WITHIN_S,
    FloodMonitor,
    lane_filters,
)


def flood(floods: FloodMonitor, device: str, now_s: float) -> None:
    for _ in range(FLOOD_AT):
        floods.note_rejected(device, now_s)


def test_no_device_has_a_lane_while_none_floods() -> None:
    floods = FloodMonitor()
    floods.note_accepted("porch")
    for _ in range(FLOOD_AT - 1):
        floods.note_rejected("loud", 0.0)
    assert floods.lanes_wanted(0.0) == frozenset()


def test_devices_that_were_heard_of_get_past_a_flood_but_not_the_one_that_floods() -> None:
    floods = FloodMonitor()
    for device in ("porch", "yard", "loud"):
        floods.note_accepted(device)
    flood(floods, "loud", 0.0)
    assert floods.lanes_wanted(0.0) == {"porch", "yard"}
    assert floods.flooding == {"loud"}
    flood(floods, "yard", 1.0)
    assert floods.lanes_wanted(1.0) == {"porch"}


def test_a_few_turned_away_now_and_then_are_no_flood() -> None:
    floods = FloodMonitor()
    floods.note_accepted("porch")
    for number in range(100):
        for _ in range(FLOOD_AT // 2):
            floods.note_rejected("loud", number * (WITHIN_S + 0.1))
        assert not floods.lanes_wanted(number * (WITHIN_S + 0.1))


def test_a_flood_is_over_when_there_was_none_for_a_while() -> None:
    floods = FloodMonitor()
    floods.note_accepted("porch")
    flood(floods, "loud", 0.0)
    flood(floods, "loud", FLOOD_S - 1)
    assert floods.lanes_wanted(2 * FLOOD_S - 2) == {"porch"}
    assert floods.lanes_wanted(2 * FLOOD_S) == frozenset()


def test_of_a_device_that_floods_few_are_written_at_a_time_if_there_are_others() -> None:
    floods = FloodMonitor()
    floods.note_accepted("loud")
    flood(floods, "loud", 0.0)
    assert floods.most_at_work("loud") == math.inf
    floods.note_accepted("porch")
    assert floods.most_at_work("loud") == FLOOD_AT_WORK
    assert floods.most_at_work("porch") == math.inf
    floods.lanes_wanted(FLOOD_S)
    assert floods.most_at_work("loud") == math.inf


def test_only_what_can_name_a_device_has_a_lane() -> None:
    floods = FloodMonitor()
    for text in ("", "a b", "_store", "é", "porch"):
        floods.note_accepted(text)
    flood(floods, "", 0.0)
    assert floods.lanes_wanted(0.0) == {"porch"}


def test_of_many_devices_those_heard_of_last_have_lanes() -> None:
    floods = FloodMonitor()
    floods.note_accepted("porch")
    for number in range(2 * MOST_LANES):
        floods.note_accepted(f"device-{number}")
        floods.note_accepted("porch")
    flood(floods, "loud", 0.0)
    wanted = floods.lanes_wanted(0.0)
    assert len(wanted) == MOST_LANES
    assert {"porch", f"device-{2 * MOST_LANES - 1}"} <= wanted


def test_names_do_not_pile_up() -> None:
    floods = FloodMonitor()
    for number in range(20_000):
        floods.note_rejected(f"some-{number}", number * 0.01)
        flood(floods, f"loud-{number}", number * 0.01)
        if number % 25 == 0:
            floods.lanes_wanted(number * 0.01)
    assert len(floods) < 2 * (FLOOD_S / 0.01 + WITHIN_S / 0.01)


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
    assert lane_filters(filters, "porch") == lanes
