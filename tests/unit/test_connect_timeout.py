from services.common.mqtt.endpoint import FIRST_TIMEOUT_S, MOST_TIMEOUT_S, ConnectTimeout


def test_the_first_tries_are_short_and_later_ones_long() -> None:
    timeout = ConnectTimeout()
    assert [timeout.next_s() for _ in range(7)] == [FIRST_TIMEOUT_S] * 3 + [
        7,
        14,
        MOST_TIMEOUT_S,
        MOST_TIMEOUT_S,
    ]


def test_where_it_takes_long_every_try_does() -> None:
    timeout = ConnectTimeout()
    timeout.next_s()
    timeout.worked(3.0)
    assert timeout.next_s() == 12.0


def test_what_worked_makes_it_short_again() -> None:
    timeout = ConnectTimeout()
    for _ in range(20):
        timeout.next_s()
    timeout.worked(0.1)
    assert timeout.next_s() == FIRST_TIMEOUT_S
