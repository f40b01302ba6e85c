import random

from services.store.knock_schedule import KNOCKS, MOST_WAIT_S, KnockSchedule

QUIET_S = 15.0


def is_knock_due(schedule: KnockSchedule, from_s: int, until_s: int) -> list[int]:
    return [second for second in range(from_s, until_s) if schedule.is_knock_due(float(second))]


def deaf_at(schedule: KnockSchedule, from_s: int, until_s: int) -> int | None:
    for second in range(from_s, until_s):
        if schedule.is_deaf(float(second)):
            return second
        schedule.is_knock_due(float(second))
    return None


def test_a_new_subscription_is_tried_at_once_and_then_when_nothing_comes() -> None:
    schedule = KnockSchedule("a", QUIET_S)
    assert is_knock_due(schedule, 0, 100) == [], "there is none yet"
    schedule.begin(100.0)
    assert schedule.is_knock_due(100.0)
    schedule.note_message(100.0, "a")
    assert is_knock_due(schedule, 100, 116) == [115]
    schedule.note_message(115.0, "a")
    schedule.note_message(129.0)  # a face
    assert is_knock_due(schedule, 116, 145) == [144]


def test_one_that_hears_three_knocks_not_is_deaf() -> None:
    schedule = KnockSchedule("a", QUIET_S)
    schedule.begin(0.0)
    assert deaf_at(schedule, 0, 100) == KNOCKS * MOST_WAIT_S
    assert not schedule.is_knock_due(100.0), "it is not to be tried any more"


def test_whatever_comes_shows_that_it_is_not() -> None:
    schedule = KnockSchedule("a", QUIET_S)
    schedule.begin(0.0)
    for second in range(10_000):
        assert not schedule.is_deaf(float(second))
        schedule.is_knock_due(float(second))
        if second % 9 == 0:
            schedule.note_message(float(second))


def test_without_a_connection_or_where_it_is_turned_off_there_are_no_knocks() -> None:
    schedule = KnockSchedule("a", QUIET_S)
    schedule.begin(0.0)
    schedule.end()
    schedule.note_message(1.0)
    assert is_knock_due(schedule, 0, 1_000) == []
    never = KnockSchedule("a", 0.0)
    never.begin(0.0)
    assert is_knock_due(never, 0, 1_000) == []
    assert not never.is_deaf(1_000.0)


def test_one_that_stays_deaf_is_begun_anew_ever_more_seldom() -> None:
    schedule = KnockSchedule("a", QUIET_S)
    now_s, times = 0, []
    for _ in range(4):
        schedule.begin(float(now_s))
        found = deaf_at(schedule, now_s, now_s + 1_000)
        assert found is not None
        times.append(found - now_s)
        schedule.note_resubscribed()
        now_s = found
    assert times == [15, 30, 60, 120]
    schedule.begin(float(now_s))
    schedule.note_message(now_s + 1.0)
    assert deaf_at(schedule, now_s + 2, now_s + 100) == now_s + 1 + QUIET_S + 15


def test_stores_that_share_their_knocks_are_not_deaf_for_that() -> None:
    """A broker gives each knock to any one of them."""
    rng = random.Random(3)
    stores = [KnockSchedule(str(number), QUIET_S) for number in range(4)]
    for store in stores:
        store.begin(0.0)
    renewals = 0
    for second in range(3 * 3_600):
        for number, store in enumerate(stores):
            if store.is_deaf(float(second)):
                store.note_resubscribed()
                store.begin(float(second))
                renewals += 1
            if store.is_knock_due(float(second)):
                rng.choice(stores).note_message(float(second), str(number))
    assert renewals <= 3, "at first, while they do not know of each other"
