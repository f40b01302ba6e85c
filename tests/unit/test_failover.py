from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.common.mqtt.failover import FAILBACK_AFTER_S, FIRST_REST_S, LEFT_REST_S, MOST_REST_S, Failover

ADDRESSES = ["a:1883", "b:1883", "c:1883"]


def failover(name: str = "forward-porch", addresses: list[str] = ADDRESSES) -> Failover:
    return Failover(name, addresses, 0.5)


def order(name: str, addresses: list[str] = ADDRESSES) -> list[str]:
    """The addresses as they are tried when each fails."""
    tried = failover(name, addresses)
    found = []
    for _ in addresses:
        found.append(addresses[at := tried.next(0.0)])
        tried.failed(at, 0.0)
    return found


def test_each_device_has_its_own_order_and_always_the_same() -> None:
    assert order("forward-porch") == order("forward-porch")
    assert {tuple(order(f"forward-{number}")) for number in range(200)} > {tuple(order("forward-porch"))}


def test_the_order_of_the_list_does_not_matter() -> None:
    assert order("forward-porch") == order("forward-porch", ADDRESSES[::-1])


def test_devices_spread_over_the_brokers_and_over_those_that_are_left() -> None:
    orders = [order(f"forward-{number}") for number in range(3_000)]
    firsts = Counter(each[0] for each in orders)
    assert all(800 < count < 1_200 for count in firsts.values()), firsts
    seconds = Counter(each[1] for each in orders if each[0] == "a:1883")
    assert seconds.keys() == {"b:1883", "c:1883"}
    assert all(count > 350 for count in seconds.values()), seconds


def test_one_more_broker_moves_none_but_those_that_are_now_its_own() -> None:
    for number in range(300):
        name = f"forward-{number}"
        now = order(name, [*ADDRESSES, "d:1883"])
        assert now[0] in {order(name)[0], "d:1883"}


def test_one_that_failed_rests_for_longer_each_time() -> None:
    tried = failover()
    home = tried.next(0.0)
    now_s, rests_s = 0.0, []
    for _ in range(9):
        tried.failed(home, now_s)
        waited_s = next(seconds for seconds in range(1_000) if tried.next(now_s + seconds) == home)
        rests_s.append(waited_s)
        now_s += waited_s
    assert rests_s[:3] == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    assert rests_s[-1] == MOST_REST_S
    tried.worked(home)
    tried.failed(home, now_s)
    assert tried.next(now_s + FIRST_REST_S) == home


def test_one_that_was_of_no_use_rests_longer() -> None:
    tried = failover()
    tried.left(tried.preferred, 0.0)
    assert tried.next(LEFT_REST_S - 1) != tried.preferred
    assert tried.next(LEFT_REST_S) == tried.preferred


def test_where_all_have_failed_they_take_turns() -> None:
    tried = failover()
    turns = []
    for now_s in range(30):
        turns.append(at := tried.next(now_s))
        tried.failed(at, now_s)
    assert set(turns[:3]) == {0, 1, 2}
    assert min(Counter(turns).values()) >= 8


def test_a_better_one_is_looked_for_after_a_while_and_only_from_elsewhere() -> None:
    tried = failover()
    home = tried.preferred
    tried.connected(home, 0.0)
    assert tried.better(home, 10 * FAILBACK_AFTER_S) is None
    tried.failed(home, 0.0)
    other = tried.next(0.0)
    tried.connected(other, 0.0)
    assert tried.better(other, FAILBACK_AFTER_S - 1) is None
    assert tried.better(other, FAILBACK_AFTER_S) == home
    assert tried.better(other, FAILBACK_AFTER_S + 1) is None, "asked for once a while"


def test_when_is_spread_so_that_a_fleet_does_not_come_home_at_one_moment() -> None:
    def first_look_s(spread: float) -> float:
        tried = Failover("forward-porch", ADDRESSES, spread)
        tried.failed(tried.preferred, 0.0)
        tried.connected(at := tried.next(0.0), 0.0)
        return next(float(seconds) for seconds in range(1_000) if tried.better(at, seconds) is not None)

    assert first_look_s(0.0) == FAILBACK_AFTER_S / 2
    assert first_look_s(1.0) == FAILBACK_AFTER_S * 1.5


def test_a_broker_s_word_is_followed_within_the_list_only() -> None:
    tried = failover()
    other = next(at for at in range(3) if at != tried.preferred)
    assert not tried.follow_reference("d:1883 e:1883")
    assert tried.next(0.0) == tried.preferred
    assert tried.follow_reference(f"d:1883 {ADDRESSES[other]}")
    assert tried.next(0.0) == other
    assert tried.next(0.0) == tried.preferred, "once"


def test_whether_there_is_another_to_go_to() -> None:
    assert not failover(addresses=["a:1883"]).has_other(0, 0.0)
    tried = failover()
    assert tried.has_other(tried.preferred, 0.0)
    for at in range(3):
        tried.failed(at, 0.0)
    assert not tried.has_other(tried.preferred, 1.0)


@given(st.lists(st.tuples(st.sampled_from(["failed", "left", "worked"]), st.floats(0, 100)), max_size=40))
def test_whatever_happens_there_is_one_to_try(events: list[tuple[str, float]]) -> None:
    tried = failover()
    now_s = 0.0
    for what, pause_s in events:
        at = tried.next(now_s)
        assert at in {0, 1, 2}
        if what == "worked":
            tried.worked(at)
        else:
            getattr(tried, what)(at, now_s)
        now_s += pause_s
