from services.common.mqtt.line import FIRST_S, MOST_S, Patience


def test_the_first_tries_are_short_and_later_ones_long() -> None:
    patience = Patience()
    assert [patience.next_s() for _ in range(7)] == [FIRST_S] * 3 + [7, 14, MOST_S, MOST_S]


def test_where_it_takes_long_every_try_does() -> None:
    patience = Patience()
    patience.next_s()
    patience.worked(3.0)
    assert patience.next_s() == 12.0


def test_what_worked_makes_it_short_again() -> None:
    patience = Patience()
    for _ in range(20):
        patience.next_s()
    patience.worked(0.1)
    assert patience.next_s() == FIRST_S
