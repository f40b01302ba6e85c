from services.common.mqtt.in_flight import PUBACK_S, InFlight


def under_way(*at_s: float) -> InFlight:
    in_flight = InFlight()
    for mid, sent_s in enumerate(at_s):
        in_flight.add(mid, 2_000, 2_300, sent_s, None)
    return in_flight


def test_what_the_broker_has_read_it_has_to_acknowledge() -> None:
    in_flight = under_way(0.0)
    assert not in_flight.is_ignored(answered_until_s=1.0, now_s=5.0)
    assert not in_flight.is_ignored(answered_until_s=1.0, now_s=5.0 + PUBACK_S)
    assert in_flight.is_ignored(answered_until_s=1.0, now_s=5.1 + PUBACK_S)


def test_what_is_still_in_a_queue_to_it_is_waited_for() -> None:
    in_flight = under_way(10.0)
    for now_s in range(10, 1_000, 10):
        assert not in_flight.is_ignored(answered_until_s=9.0, now_s=now_s)


def test_each_answer_begins_the_wait_anew() -> None:
    in_flight = under_way(0.0, 0.0)
    in_flight.is_ignored(answered_until_s=1.0, now_s=1.0)
    assert in_flight.answered(0) is not None
    assert not in_flight.is_ignored(answered_until_s=1.0, now_s=PUBACK_S + 2.0)
    assert in_flight.is_ignored(answered_until_s=1.0, now_s=2 * PUBACK_S + 3.0)


def test_what_needs_no_answer_is_none() -> None:
    """A message of QoS 0 that has left is told of in the same way."""
    in_flight = under_way(0.0)
    in_flight.is_ignored(answered_until_s=1.0, now_s=1.0)
    assert in_flight.answered(77) is None
    assert in_flight.is_ignored(answered_until_s=1.0, now_s=PUBACK_S + 2.0)


def test_nothing_under_way_is_nothing_ignored() -> None:
    in_flight = under_way(0.0)
    assert in_flight.has_large
    assert in_flight.sizes == [2_300]
    in_flight.forget()
    assert not in_flight
    assert not in_flight.is_ignored(answered_until_s=100.0, now_s=1_000.0)
    assert in_flight.answered(0) is None
