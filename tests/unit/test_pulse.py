from services.common.mqtt.pulse import ASK_AFTER_S, Pulse


def test_nobody_is_asked_soon_after_a_sign_of_life() -> None:
    pulse = Pulse(0.0)
    assert not pulse.asks(ASK_AFTER_S - 0.1)
    pulse.is_alive(1.0)
    assert not pulse.asks(ASK_AFTER_S + 0.9)
    assert pulse.asks(ASK_AFTER_S + 1.0)


def test_one_question_is_open_at_a_time_and_grows_old_until_it_is_answered() -> None:
    pulse = Pulse(0.0)
    assert pulse.silent_s(100.0) == 0
    assert pulse.asks(10.0)
    assert not pulse.asks(20.0)
    assert pulse.silent_s(20.0) == 10
    pulse.is_alive(20.5)
    assert pulse.silent_s(21.0) == 0
    assert pulse.asks(22.0)


def test_an_older_sign_of_life_answers_nothing() -> None:
    pulse = Pulse(0.0)
    assert pulse.asks(10.0)
    pulse.is_alive(9.0)
    assert pulse.silent_s(12.0) == 2
