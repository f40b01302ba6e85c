import random

from services.store.hearing import KNOCKS, MOST_WAIT_S, Hearing

QUIET_S = 15.0


def knocks(hearing: Hearing, from_s: int, until_s: int) -> list[int]:
    return [second for second in range(from_s, until_s) if hearing.knocks(float(second))]


def deaf_at(hearing: Hearing, from_s: int, until_s: int) -> int | None:
    for second in range(from_s, until_s):
        if hearing.is_deaf(float(second)):
            return second
        hearing.knocks(float(second))
    return None


def test_a_new_subscription_is_tried_at_once_and_then_when_nothing_comes() -> None:
    hearing = Hearing("a", QUIET_S)
    assert knocks(hearing, 0, 100) == [], "there is none yet"
    hearing.begin(100.0)
    assert hearing.knocks(100.0)
    hearing.heard(100.0, "a")
    assert knocks(hearing, 100, 116) == [115]
    hearing.heard(115.0, "a")
    hearing.heard(129.0)  # a face
    assert knocks(hearing, 116, 145) == [144]


def test_one_that_hears_three_knocks_not_is_deaf() -> None:
    hearing = Hearing("a", QUIET_S)
    hearing.begin(0.0)
    assert deaf_at(hearing, 0, 100) == KNOCKS * MOST_WAIT_S
    assert not hearing.knocks(100.0), "it is not to be tried any more"


def test_whatever_comes_shows_that_it_is_not() -> None:
    hearing = Hearing("a", QUIET_S)
    hearing.begin(0.0)
    for second in range(10_000):
        assert not hearing.is_deaf(float(second))
        hearing.knocks(float(second))
        if second % 9 == 0:
            hearing.heard(float(second))


def test_without_a_connection_or_where_it_is_not_wanted_nobody_knocks() -> None:
    hearing = Hearing("a", QUIET_S)
    hearing.begin(0.0)
    hearing.end()
    hearing.heard(1.0)
    assert knocks(hearing, 0, 1_000) == []
    never = Hearing("a", 0.0)
    never.begin(0.0)
    assert knocks(never, 0, 1_000) == []
    assert not never.is_deaf(1_000.0)


def test_one_that_stays_deaf_is_begun_anew_ever_more_seldom() -> None:
    hearing = Hearing("a", QUIET_S)
    now_s, times = 0, []
    for _ in range(4):
        hearing.begin(float(now_s))
        found = deaf_at(hearing, now_s, now_s + 1_000)
        assert found is not None
        times.append(found - now_s)
        hearing.renews()
        now_s = found
    assert times == [15, 30, 60, 120]
    hearing.begin(float(now_s))
    hearing.heard(now_s + 1.0)
    assert deaf_at(hearing, now_s + 2, now_s + 100) == now_s + 1 + QUIET_S + 15


def test_stores_that_share_their_knocks_are_not_deaf_for_that() -> None:
    """A broker gives each knock to any one of them."""
    rng = random.Random(3)
    stores = [Hearing(str(number), QUIET_S) for number in range(4)]
    for store in stores:
        store.begin(0.0)
    renewals = 0
    for second in range(3 * 3_600):
        for number, store in enumerate(stores):
            if store.is_deaf(float(second)):
                store.renews()
                store.begin(float(second))
                renewals += 1
            if store.knocks(float(second)):
                rng.choice(stores).heard(float(second), str(number))
    assert renewals <= 3, "at first, while they do not know of each other"
