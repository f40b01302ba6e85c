"""Which of several states is the last, whichever broker says it when."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire.message import Message
from services.common.wire.status import LAST, StatusOrder, StatusSequence, every_s
from services.common.wire.topics import Source
from services.gallery.presence import SETTLED_S, SILENT_TIMES, Presence, StatusChange

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OWN = Source("porch", "forward")


def own(state: bytes, *, kept: bool = False) -> Message:
    return Message(topic="faceferry/porch/forward/status", payload=state, retain=kept)


def connection(began: datetime, every: int = 10) -> dict[str, Message]:
    """What one connection says: at first, of a camera, and at last."""
    sayings = StatusSequence(every)
    sayings.begin(began)
    camera = Message(topic="faceferry/porch/front/status", payload=b"online")
    return {
        "first": sayings.first(own(b"online")),
        "camera": sayings.next(camera),
        "last": sayings.last(own(b"offline")),
    }


def test_words_of_a_connection_are_in_order_and_those_of_the_next_behind_them() -> None:
    sayings = StatusSequence(10)
    said = []
    for began in (NOW, NOW - timedelta(days=1)):  # the clock was set back
        sayings.begin(began)
        said += [
            sayings.first(own(b"online")),
            *(sayings.next(own(b"x")) for _ in range(3)),
            sayings.last(own(b"offline")),
        ]
    orders = [StatusOrder.of(message) for message in said]
    assert None not in orders
    assert all(a < b for a, b in itertools.pairwise(orders))  # type: ignore[operator]
    assert {every_s(message) for message in said} == {10.0}


@pytest.mark.parametrize(
    "text", ["", "/", "x/1", "2026-11-30T12:00:00.000000Z", "2026-11-30T12:00:00.000000Z/x", "9/9"]
)
def test_an_order_that_is_none_is_none(text: str) -> None:
    assert StatusOrder.of(Message(topic="t", attributes=(("order", text),))) is None


@given(st.text(max_size=60))
def test_whatever_stands_there_it_is_read(text: str) -> None:
    message = Message(topic="t", attributes=(("order", text), ("every", text)))
    StatusOrder.of(message)
    assert (every_s(message) or 1) > 0
    assert StatusOrder.of(
        Message(topic="t", attributes=(("order", f"2026-11-30T12:00:00.000000Z/{10**30}"),))
    ) == StatusOrder(NOW, LAST)


def test_whichever_broker_is_heard_first_the_device_is_as_it_last_was() -> None:
    """It was on one broker, went silently to another, and ended there; the first one's will came last."""
    words = [
        connection(NOW - timedelta(hours=2))["first"],
        connection(NOW - timedelta(hours=2))["last"],
        connection(NOW - timedelta(hours=1))["first"],
        connection(NOW - timedelta(hours=1))["last"],
    ]
    for last in (2, 3):
        wanted = "online" if last == 2 else "offline"
        for order in itertools.permutations(words[: last + 1]):
            presence = Presence()
            for message in order:
                presence.note(message, NOW, 0.0)
            assert presence.device("porch") == wanted


def test_one_that_says_nothing_for_a_while_is_offline_will_or_not_and_back_with_its_next_word() -> None:
    presence = Presence()
    said = connection(NOW)
    presence.note(said["first"], NOW, 100.0)
    presence.note(said["camera"], NOW, 100.0)
    assert presence.lapse(100.0 + SILENT_TIMES * 10) == []
    assert presence.lapse(100.1 + SILENT_TIMES * 10) == [StatusChange(OWN, "offline")]
    assert presence.lapse(200.0) == []
    assert presence.device("porch") == "offline"
    assert presence.cameras == {Source("porch", "front"): "unknown"}
    assert presence.note(said["first"], NOW, 201.0) == StatusChange(OWN, "online")
    assert presence.cameras == {Source("porch", "front"): "online"}


def test_one_that_promises_nothing_is_left_as_it_is() -> None:
    presence = Presence()
    presence.note(own(b"online"), NOW, 0.0)
    presence.note(connection(NOW, every=0)["first"], NOW, 0.0)
    assert presence.lapse(1e9) == []


def test_a_clock_that_was_ahead_and_is_right_again_hides_nothing() -> None:
    presence = Presence()
    presence.note(connection(NOW + timedelta(days=1))["first"], NOW, 0.0)
    assert presence.note(
        connection(NOW + timedelta(minutes=1))["last"], NOW + timedelta(minutes=2), 120.0
    ) == StatusChange(OWN, "offline")


def test_who_is_alive_is_believed_after_a_while_whatever_its_clock_says() -> None:
    presence = Presence()
    presence.note(connection(NOW)["last"], NOW, 0.0)
    back = connection(NOW - timedelta(days=9))["first"]
    assert presence.note(back, NOW, SETTLED_S - 1) is None
    kept = Message(topic=back.topic, payload=back.payload, attributes=back.attributes, retain=True)
    assert presence.note(kept, NOW, SETTLED_S + 1) is None, "that is a broker's memory"
    assert presence.note(back, NOW, SETTLED_S + 1) == StatusChange(OWN, "online")


@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_last_connection_decides_in_any_order(rng: random.Random, count: int) -> None:
    words = [
        message
        for number in range(count)
        for message in list(connection(NOW + timedelta(seconds=number)).values())[
            : 3 if number < count - 1 else 1
        ]
    ]
    rng.shuffle(words)
    presence = Presence()
    for message in words:
        presence.note(message, NOW + timedelta(hours=1), 0.0)
    assert presence.device("porch") == "online"
