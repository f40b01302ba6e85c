from services.common.mqtt.liveness import ASK_AFTER_S, GIVE_UP_S, Heartbeat


def begun() -> Heartbeat:
    heartbeat = Heartbeat()
    heartbeat.begin(0.0)
    return heartbeat


def test_no_question_is_asked_soon_after_a_sign_of_life() -> None:
    heartbeat = begun()
    assert not heartbeat.asks(ASK_AFTER_S - 0.1)
    heartbeat.is_alive(1.0)
    assert not heartbeat.asks(ASK_AFTER_S + 0.9)
    assert heartbeat.asks(ASK_AFTER_S + 1.0)


def test_one_question_is_open_at_a_time_and_grows_old_until_it_is_answered() -> None:
    heartbeat = begun()
    assert heartbeat.silent_s(100.0) == 0
    assert heartbeat.asks(10.0)
    assert not heartbeat.asks(20.0)
    assert heartbeat.silent_s(20.0) == 10
    heartbeat.is_alive(20.5)
    assert heartbeat.silent_s(21.0) == 0
    assert heartbeat.asks(22.0)


def test_an_older_sign_of_life_answers_nothing() -> None:
    heartbeat = begun()
    assert heartbeat.asks(10.0)
    heartbeat.is_alive(9.0)
    assert heartbeat.silent_s(12.0) == 2


def test_each_connection_that_ends_without_an_answer_gives_the_next_more_time() -> None:
    heartbeat = begun()
    waits = []
    began_s = 0.0
    for _ in range(5):
        heartbeat.begin(began_s)
        assert heartbeat.asks(began_s + 2)
        waits.append(next(wait_s for wait_s in range(1, 100) if heartbeat.gives_up(began_s + 2 + wait_s)))
        began_s += 2 + waits[-1]
    assert waits == [6, 6, 11, 21, 41]


def test_where_answers_are_slow_no_connection_is_given_up_early() -> None:
    heartbeat = begun()
    assert heartbeat.asks(2.0)
    heartbeat.is_alive(6.0)
    assert heartbeat.asks(10.0)
    assert not heartbeat.gives_up(10.0 + 2 * GIVE_UP_S)
    assert heartbeat.gives_up(10.0 + 13)


def test_a_failure_long_ago_gives_no_connection_more_time() -> None:
    heartbeat = begun()
    for number in range(5):
        began_s = 1_000.0 * number
        heartbeat.begin(began_s)
        assert heartbeat.asks(began_s + 2)
        assert heartbeat.gives_up(began_s + 2 + GIVE_UP_S + 1)
