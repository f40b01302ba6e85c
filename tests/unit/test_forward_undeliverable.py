"""What is set aside, and when it is tried again: without a broker and a disk."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from services.forward.spool.commands import PutBack, PutBackRequest, SetAside, Unsendable
from services.forward.spool.face import SpooledFace
from services.forward.undeliverable import PROBE_EVERY_S, SURE_AFTER, Undeliverable
from tests.forward_rig import face


@dataclass
class Spooling:
    """Takes orders in the writer's place."""

    orders: list[Any] = field(default_factory=list)

    def put(self, order: object) -> None:
        self.orders.append(order)


@pytest.fixture
def writer() -> Spooling:
    return Spooling()


@pytest.fixture
def aside(writer: Spooling) -> Undeliverable:
    return Undeliverable(writer, lambda _: None)  # type: ignore[arg-type]


def of_camera(camera: str, number: int) -> SpooledFace:
    one = face(number, 100)
    topic = f"faceferry/dev/{camera}/face"
    return SpooledFace(number, one.id, type(one.message)(topic=topic, payload=one.message.payload, qos=1))


def why_not_sent(aside: Undeliverable, face: SpooledFace, now_s: float) -> str | None:
    return aside.why_not_sent(face.message.topic, face.id, now_s)


def refuse(aside: Undeliverable, camera: str, count: int) -> None:
    for number in range(count):
        assert not aside.broker_answered(of_camera(camera, number + 1), "not_authorized")


def test_one_forbidden_camera_beside_a_good_one_is_no_reason_not_to_be_ready(aside: Undeliverable) -> None:
    assert aside.broker_answered(of_camera("good", 1), None)
    for _ in range(100):
        refuse(aside, "forbidden", 3)
        assert aside.why_not_ready() is None


def test_where_nothing_is_taken_it_is(aside: Undeliverable) -> None:
    refuse(aside, "one", SURE_AFTER)
    assert "not_authorized" in str(aside.why_not_ready())
    aside.broker_answered(of_camera("one", 9), None)
    assert aside.why_not_ready() is None


def test_a_refused_topic_is_asked_again_every_few_seconds(aside: Undeliverable, writer: Spooling) -> None:
    refuse(aside, "one", SURE_AFTER)
    asked = [
        second
        for second in range(60)
        if why_not_sent(aside, of_camera("one", 100 + second), 10.0 + second) is None
    ]
    assert len(asked) >= 60 // (PROBE_EVERY_S + 1)
    assert len(asked) <= 60 // PROBE_EVERY_S
    writer.orders.clear()
    aside.broker_answered(of_camera("one", 200), None)
    assert writer.orders == [PutBack(PutBackRequest(reason="not_authorized"))]


def test_faces_of_a_refused_topic_are_not_read_but_for_the_one_that_asks(aside: Undeliverable) -> None:
    refuse(aside, "one", SURE_AFTER - 1)
    assert aside.unsendable(30_000, 100.0) == Unsendable(30_000, {})
    refuse(aside, "one", 1)
    assert aside.unsendable(30_000, 100.0).topics == {}  # for it is time to ask
    assert why_not_sent(aside, of_camera("one", 4), 100.0) is None
    assert aside.unsendable(30_000, 100.5).topics == {of_camera("one", 4).message.topic: "not_authorized"}
    assert aside.unsendable(30_000, 100.5 + PROBE_EVERY_S).topics == {}


def test_what_is_said_of_a_face_s_content_says_nothing_of_its_camera(
    aside: Undeliverable, writer: Spooling
) -> None:
    for number in range(1, 10):
        aside.broker_answered(of_camera("one", number), "payload_format_invalid")
    assert len(writer.orders) == 9
    assert all(isinstance(order, SetAside) for order in writer.orders)
    assert why_not_sent(aside, of_camera("one", 10), 1.0) is None
    assert aside.why_not_ready() is None
