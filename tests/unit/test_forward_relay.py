from collections.abc import Callable
from dataclasses import replace

import pytest

from services.common.errors import Refused
from services.common.mqtt import LinkDown
from services.common.wire.message import Message
from services.forward import relay
from services.forward.relay import StatusRelay

OWN = "faceferry/porch/forward/status"


class Cloud:
    """Takes messages, and has them acknowledged when told to."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[Message] = []
        self._waiting: list[Callable[[str | None], None]] = []

    def publish(self, message: Message, on_acknowledged: Callable[[str | None], None]) -> None:
        if not self.is_up:
            raise LinkDown("cloud")
        self.sent.append(message)
        self._waiting.append(on_acknowledged)

    def acknowledge(self) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(None)

    @property
    def said(self) -> list[tuple[str, bytes]]:
        said = [(message.topic.split("/")[2], message.payload) for message in self.sent]
        self.sent.clear()
        return said


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def states(cloud: Cloud) -> StatusRelay:
    return StatusRelay(cloud.publish, OWN)


def status(payload: bytes, camera: str = "front") -> Message:
    return Message(topic=f"faceferry/porch/{camera}/status", payload=payload, retain=True)


def test_a_state_goes_on_once(states: StatusRelay, cloud: Cloud) -> None:
    states.take(status(b"online"))
    cloud.acknowledge()
    states.take(status(b"online"))
    assert cloud.said == [("front", b"online")]


def test_one_that_flaps_has_one_state_under_way_and_ends_with_its_last(
    states: StatusRelay, cloud: Cloud
) -> None:
    for _ in range(500):
        states.take(status(b"online"))
        states.take(status(b"stalled"))
    states.take(status(b"online", "yard"))
    assert cloud.said == [("front", b"online"), ("yard", b"online")]
    cloud.acknowledge()
    assert cloud.said == [("front", b"stalled")]
    cloud.acknowledge()
    assert cloud.said == []


def test_a_new_connection_hears_all_states(states: StatusRelay, cloud: Cloud) -> None:
    states.take(status(b"online"))
    cloud.is_up = False
    states.take(status(b"offline"))
    states.take(status(b"online", "yard"))
    cloud.is_up = True
    cloud.sent.clear()
    states.start_over()
    assert cloud.said == [("front", b"offline"), ("yard", b"online")]


def test_what_is_no_state_of_a_camera_is_refused(states: StatusRelay, cloud: Cloud) -> None:
    bad = [
        Message(topic=OWN, payload=b"online"),
        Message(topic="faceferry/porch/front/face", payload=b"online"),
        status(b"on fire"),
    ]
    for message in bad:
        with pytest.raises(Refused):
            states.take(message)
    assert cloud.sent == []


def test_invented_cameras_do_not_pile_up(states: StatusRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_CAMERAS", 2)
    states.take(status(b"online", "a"))
    states.take(status(b"online", "b"))
    states.take(status(b"offline", "a"))
    with pytest.raises(Refused) as caught:
        states.take(status(b"online", "c"))
    assert caught.value.reason == "too_many_cameras"


def test_a_camera_that_is_gone_is_taken_back_and_forgotten(states: StatusRelay, cloud: Cloud) -> None:
    states.take(status(b""))
    assert cloud.said == []
    states.take(status(b"offline"))
    cloud.acknowledge()
    states.take(status(b""))
    cloud.acknowledge()
    assert cloud.said == [("front", b"offline"), ("front", b"")]
    states.start_over()
    assert cloud.said == []


def test_a_reason_goes_on_with_its_state_and_what_is_no_reason_does_not(
    states: StatusRelay, cloud: Cloud
) -> None:
    for camera, said, goes_on in (
        ("front", "unavailable", True),
        ("yard", "rtsp://user:secret@camera", False),
    ):
        reasons = (("why", said), ("note", "of no use"))
        states.take(replace(status(b"offline", camera), attributes=reasons))
        assert cloud.sent.pop().attributes == ((("why", said),) if goes_on else ())
