import itertools

import pytest

from services.forward.congestion import (
    FEW,
    FIRST_PATIENCE_S,
    LEAST_PATIENCE_S,
    MOST_GAP_S,
    CongestionWindow,
    Throttle,
)
from services.forward.outbox import Outbox
from tests.unit.test_forward_outbox import face, sent


def quick() -> Throttle:
    """A link by which receipts take 20 ms."""
    throttle = Throttle()
    for number in range(20):
        throttle.sent(number * 1.0)
        throttle.receipted(0.02)
    return throttle


def left(throttle: Throttle, from_s: float, until_s: float, every_s: float = 0.05) -> list[float]:
    """When faces leave that come so often, and that nothing is heard of."""
    times, now_s = [], from_s
    while now_s < until_s:
        if throttle.may_send_at_s(now_s) <= now_s:
            throttle.sent(now_s)
            times.append(now_s)
        now_s += every_s
    return times


def test_while_receipts_come_nothing_waits() -> None:
    throttle = quick()
    for start_s in range(100, 110):
        assert len(left(throttle, start_s, start_s + LEAST_PATIENCE_S - 0.01)) == 5
        throttle.receipted(0.02)


def test_where_none_comes_few_leave_and_ever_fewer() -> None:
    gone = left(quick(), 100.0, 160.0)
    assert len([each for each in gone if each < 105.0]) <= 10
    gaps = [after - before for before, after in itertools.pairwise(gone)]
    assert gaps == pytest.approx(sorted(gaps), abs=0.06)
    assert gaps[-1] == pytest.approx(MOST_GAP_S, abs=0.06)


def test_with_the_next_receipt_all_may_go() -> None:
    throttle = quick()
    left(throttle, 100.0, 103.0)
    assert throttle.may_send_at_s(103.0) > 103.0
    throttle.receipted(None)
    assert throttle.may_send_at_s(103.0) == 103.0


def test_where_receipts_take_long_they_are_given_as_long() -> None:
    throttle = Throttle()
    for number in range(50):
        throttle.sent(number * 3.0)
        throttle.receipted(2.0 if number % 2 else 3.0)
    assert len(left(throttle, 200.0, 203.0)) == 60


def test_over_a_new_connection_few_go_until_something_is_heard() -> None:
    throttle = Throttle()
    gone = left(throttle, 0.0, 5.0)
    assert len([each for each in gone if each < FIRST_PATIENCE_S]) == FEW
    assert len(gone) <= FEW + 3
    throttle.receipted(None)
    assert len(left(throttle, 5.0, 5.0 + FIRST_PATIENCE_S - 0.01)) == 20


def test_a_broker_that_hangs_gets_a_few_faces_and_not_a_window_full() -> None:
    """What it gets is sent again by another one."""
    box = Outbox(CongestionWindow(), 2.0)
    box.link_up()
    now_s, number = 0.0, 0
    while now_s < 10.0:
        number += 1
        now_s = number / 33
        box.offer(face(number, 5_000))
        for face_id in sent(box, now_s):
            box.settle(face_id, now_s + 0.01)
    under_way: list[str] = []
    for number in range(1_000, 1_000 + 33 * 5):
        now_s += 1 / 33
        box.offer(face(number, 5_000))
        under_way += sent(box, now_s)
    assert len(under_way) <= 12
    assert now_s < box.next_due_s() < now_s + MOST_GAP_S, "it wakes for the next one"
    box.settle(under_way[0], now_s)
    assert len(sent(box, now_s)) > 20


def test_faces_that_do_not_go_after_all_hold_up_none() -> None:
    """They are too large for the broker, or it refuses them at once."""
    box = Outbox(CongestionWindow(), 2.0)
    box.link_up()
    for number in range(100):
        box.offer(face(number, 100_000 if number < 50 else 1_000))
    gone: list[str] = []
    while (sending := box.next(0.0)) is not None:
        if sending.face.size_bytes > 50_000:
            box.withdraw(sending.face.id)
        else:
            gone.append(sending.face.id)
    assert len(gone) == FEW


def test_a_store_that_is_heard_for_a_moment_is_not_sent_all_again() -> None:
    """It may have all of them, and a bucket that takes one now and then."""
    box = Outbox(CongestionWindow(1_000_000, 1_000_000), 2.0)
    box.link_up()
    box.settle("before", 0.0)
    for number in range(200):
        box.offer(face(number))
    for face_id in (under_way := sent(box, 0.0)):
        box.broker_has(face_id, 0.0)
    assert len(under_way) == 200
    again, now_s = 0, 0.0
    while now_s < 20.0:
        now_s = max(now_s + 0.01, min(box.next_due_s(), now_s + 1.0))
        for face_id in sent(box, now_s):
            box.broker_has(face_id, now_s)
            again += 1
        if under_way and now_s > 4.0 and again % 3 == 0:
            box.settle(under_way.pop(), 4.0)
            under_way = []
    assert again < 20


def test_what_is_lost_goes_again_as_fast_as_receipts_come() -> None:
    box = Outbox(CongestionWindow(1_000_000, 1_000_000), 2.0)
    box.link_up()
    box.settle("before", 0.0)
    for number in range(200):
        box.offer(face(number))
    for face_id in sent(box, 0.0):
        box.broker_has(face_id, 0.0)
    assert sent(box, 2.0) == ["face-0"]
    box.settle("face-0", 2.1)
    left, rounds, now_s = 199, 0, 4.1
    while left:
        gone = sent(box, now_s)
        now_s = max(now_s + 0.01, 0.0 if gone else box.next_due_s())
        for face_id in gone:
            box.settle(face_id, now_s)
        left, rounds = left - len(gone), rounds + 1
    assert rounds <= 60
    assert now_s < 7.0
