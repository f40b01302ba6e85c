from services.common.mqtt.liveness import ASK_AFTER_S, GIVE_UP_S, Pulse


def begun() -> Pulse:
    pulse = Pulse()
    pulse.begin(0.0)
    return pulse


def test_nobody_is_asked_soon_after_a_sign_of_life() -> None:
    pulse = begun()
    assert not pulse.asks(ASK_AFTER_S - 0.1)
    pulse.is_alive(1.0)
    assert not pulse.asks(ASK_AFTER_S + 0.9)
    assert pulse.asks(ASK_AFTER_S + 1.0)


def test_one_question_is_open_at_a_time_and_grows_old_until_it_is_answered() -> None:
    pulse = begun()
    assert pulse.silent_s(100.0) == 0
    assert pulse.asks(10.0)
    assert not pulse.asks(20.0)
    assert pulse.silent_s(20.0) == 10
    pulse.is_alive(20.5)
    assert pulse.silent_s(21.0) == 0
    assert pulse.asks(22.0)


def test_an_older_sign_of_life_answers_nothing() -> None:
    pulse = begun()
    assert pulse.asks(10.0)
    pulse.is_alive(9.0)
    assert pulse.silent_s(12.0) == 2


def test_each_connection_that_ends_without_an_answer_gives_the_next_more_time() -> None:
    pulse = begun()
    waits = []
    began_s = 0.0
    for _ in range(5):
        pulse.begin(began_s)
        assert pulse.asks(began_s + 2)
        waits.append(next(wait_s for wait_s in range(1, 100) if pulse.gives_up(began_s + 2 + wait_s)))
        began_s += 2 + waits[-1]
    assert waits == [6, 6, 11, 21, 41]


def test_where_answers_are_slow_nobody_is_given_up_early() -> None:
    pulse = begun()
    assert pulse.asks(2.0)
    pulse.is_alive(6.0)
    assert pulse.asks(10.0)
    assert not pulse.gives_up(10.0 + 2 * GIVE_UP_S)
    assert pulse.gives_up(10.0 + 13)


def test_trouble_that_was_long_ago_gives_nobody_more_time() -> None:
    pulse = begun()
    for number in range(5):
        began_s = 1_000.0 * number
        pulse.begin(began_s)
        assert pulse.asks(began_s + 2)
        assert pulse.gives_up(began_s + 2 + GIVE_UP_S + 1)
