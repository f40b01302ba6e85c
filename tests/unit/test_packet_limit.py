from services.common.mqtt.endpoint import FIRST_HOLD_S, MOST_HOLD_S, SUSPECT_BYTES, TRIAL_S, PacketLimit


def ended(limit: PacketLimit, *sizes: int, at_s: float = 0.0, is_said: bool = False) -> None:
    limit.ended(sizes, at_s, is_said=is_said)


def convicted() -> PacketLimit:
    limit = PacketLimit()
    for at_s in (0.0, 1.0, 10.0):
        limit.begin(at_s - TRIAL_S)
        ended(limit, 50_000, at_s=at_s)
    return limit


def test_one_connection_that_ends_says_nothing() -> None:
    limit = PacketLimit()
    ended(limit, 50_000)
    assert limit.most_bytes(0.0) is None


def test_two_have_it_held_while_the_next_shows_whether_it_stands_without() -> None:
    limit = PacketLimit()
    ended(limit, 50_000, 60_000)
    ended(limit, 50_000, at_s=1.0)
    limit.begin(5.0)
    assert limit.most_bytes(5.0 + TRIAL_S / 2) == 49_999
    assert limit.most_bytes(5.0 + TRIAL_S) is None


def test_three_are_sure_and_it_is_tried_again_after_growing_waits() -> None:
    limit = convicted()
    assert limit.most_bytes(10.0 + FIRST_HOLD_S - 1) == 49_999
    at_s = 10.0 + FIRST_HOLD_S
    assert limit.most_bytes(at_s) is None
    ended(limit, 50_000, at_s=at_s)
    assert limit.most_bytes(at_s + 2 * FIRST_HOLD_S - 1) == 49_999
    for _ in range(20):
        at_s += MOST_HOLD_S
        ended(limit, 50_000, at_s=at_s)
    assert limit.most_bytes(at_s + MOST_HOLD_S - 1) == 49_999
    assert limit.most_bytes(at_s + MOST_HOLD_S) is None


def test_what_is_said_is_believed_at_once_and_what_is_smaller_next_time() -> None:
    limit = PacketLimit()
    ended(limit, 5_000, 50_000, is_said=True)
    assert limit.most_bytes(1.0) == 49_999
    ended(limit, 5_000, 40_000, at_s=2.0, is_said=True)
    assert limit.most_bytes(3.0) == 39_999


def test_one_that_comes_through_ends_it() -> None:
    limit = convicted()
    limit.passed(49_000)
    assert limit.most_bytes(11.0) == 49_999
    limit.passed(50_000)
    assert limit.most_bytes(11.0) is None


def test_a_link_that_flaps_holds_nothing_back_for_long() -> None:
    """Each end has something under way; while the large is held, what ends it is not the large."""
    limit = PacketLimit()
    for number in range(200):
        limit.begin(number * 0.3)
        ended(limit, 20_000, at_s=number * 0.3 + 0.2)
    assert limit.most_bytes(60.0 + TRIAL_S) is None
    assert limit.most_bytes(60.0) == 19_999


def test_one_that_was_away_ended_the_connection_for_that() -> None:
    limit = PacketLimit()
    for _ in range(10):
        ended(limit, 50_000)
        limit.absent()
        limit.begin(1.0)
    assert limit.most_bytes(1.0) is None
    sure = convicted()
    sure.absent()
    assert sure.most_bytes(11.0) == 49_999


def test_small_packets_are_never_the_reason() -> None:
    limit = PacketLimit()
    for _ in range(10):
        ended(limit, SUSPECT_BYTES - 1)
        ended(limit)
    assert limit.most_bytes(0.0) is None
