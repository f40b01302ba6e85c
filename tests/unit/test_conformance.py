"""What is said of clients that do one thing wrong each."""

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.common.wire import faces, times
from services.common.wire.frames import Done, Frame, encode_done, encode_frame
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import Source
from services.conformance import camera_judge, detector_judge, face_judge
from services.conformance.camera_judge import CameraJudge
from services.conformance.detector_judge import DetectorJudge
from services.conformance.face_judge import FaceJudge
from services.conformance.verdict import Verdict
from tests.storing import PORCH, TIME, face, jpeg, with_attribute

FIRST, SECOND = (faces.encode_face(face(number)) for number in (1, 2))


def faults(verdict: Verdict) -> list[str]:
    """The rules that were broken."""
    return [line.removeprefix("WRONG ") for line in verdict.lines() if line.startswith("WRONG")]


def unseen(verdict: Verdict) -> list[str]:
    return [line.split("  ", 1)[1].strip() for line in verdict.lines() if line.startswith("?")]


def test_a_client_that_keeps_all_rules_of_faces_is_fine() -> None:
    judge = FaceJudge("store")
    assert judge.take(FIRST, 0.0) == []
    [stored] = judge.take(FIRST, 2.0)
    assert decode_receipt(stored).ids == {face(1).id}
    [refused] = judge.take(SECOND, 2.1)
    assert decode_receipt(refused).refused == {face(2).id: "check_client"}
    assert not judge.is_over(3.0)
    assert not judge.tick(9.0)
    assert judge.is_over(9.0)
    assert judge.verdict.is_fine
    assert not faults(judge.verdict)


@pytest.mark.parametrize(
    ("plays", "topic"), [("store", "faceferry/porch/stored"), ("forward", "faceferry/porch/taken")]
)
def test_receipts_are_those_of_whom_is_played(plays: str, topic: str) -> None:
    judge = FaceJudge(plays)
    judge.take(FIRST, 0.0)
    assert [answer.topic for answer in judge.take(FIRST, 2.0)] == [topic]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ([(0.0, FIRST), (0.1, FIRST)], face_judge.AGAIN),
        ([(0.0, FIRST), (2.0, with_attribute(FIRST, "score", "0.1"))], face_judge.AGAIN),
        ([(0.0, FIRST), (2.0, FIRST), (6.0, FIRST)], face_judge.STOPS),
        ([(0.0, FIRST), (0.1, SECOND), (2.1, SECOND)], face_judge.LETS_GO),
        ([(0.0, dataclasses.replace(FIRST, qos=0))], face_judge.QOS),
        ([(0.0, with_attribute(FIRST, "time", "2026-01-31T23:59:59.007Z"))], face_judge.WHOLE),
        ([(0.0, dataclasses.replace(FIRST, content_type="image/jpg"))], face_judge.WHOLE),
        ([(0.0, dataclasses.replace(FIRST, payload=FIRST.payload[:-2]))], face_judge.WHOLE),
    ],
)
def test_what_is_wrong_with_faces_is_said(said: list[tuple[float, Message]], rule: str) -> None:
    judge = FaceJudge("store")
    for now_s, message in said:
        judge.take(message, now_s)
    assert faults(judge.verdict) == [rule]
    assert not judge.verdict.is_fine


def test_a_face_that_never_comes_again_is_wrong_and_answered_in_the_end() -> None:
    judge = FaceJudge("store")
    judge.take(FIRST, 0.0)
    assert judge.tick(14.0) == []
    assert len(judge.tick(16.0)) == 1
    assert faults(judge.verdict) == [face_judge.AGAIN]


def test_a_client_that_leaves_while_a_face_has_no_receipt_is_wrong() -> None:
    judge = FaceJudge("store")
    judge.take(FIRST, 0.0)
    judge.end(1.0, has_left=True)
    assert faults(judge.verdict) == [face_judge.AGAIN]
    assert face_judge.LETS_GO in " ".join(unseen(judge.verdict))


def test_whoever_is_refused_is_told_whatever_it_is_called() -> None:
    judge = FaceJudge("store")
    [answer] = judge.take(
        dataclasses.replace(FIRST, topic="faceferry/Jetson-NX/cam/face", attributes=()), 0.0
    )
    assert answer.topic == "faceferry/Jetson-NX/stored"
    assert json.loads(answer.payload)["unnamed"] == [{"id": "", "reason": "bad_topic"}]
    assert "right: faceferry/{device}" in " ".join(judge.verdict.lines())


def frame(number: int, *, paced: bool = False, after: int | None = None) -> Message:
    time = TIME + timedelta(seconds=number)
    return encode_frame(Frame(PORCH, number, time, jpeg(number % 8), paced=paced, after=after))


def show(judge: CameraJudge, *said: tuple[float, Message]) -> list[Message]:
    return [answer for now_s, message in said for answer in judge.take(message, now_s)]


def test_a_camera_that_keeps_all_rules_is_fine() -> None:
    judge = CameraJudge()
    assert not show(judge, *((float(number), frame(number)) for number in range(4)))
    answers = show(judge, *((4.0 + 1.5 * number, frame(4 + number)) for number in range(7)))
    assert [json.loads(answer.payload) for answer in answers[:4]] == [
        *[{"faces": [], "next_s": 1.5}] * 3,
        {"dropped": "superseded"},
    ]
    assert judge.is_over(20.0)
    judge.end(20.0, has_left=False)
    assert judge.verdict.is_fine, judge.verdict.lines()


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ([(0.1 * number, frame(number)) for number in range(5)], camera_judge.FEW),
        ([(0.0, frame(7)), (1.0, frame(6))], camera_judge.NUMBERED),
        ([(0.0, frame(7)), (1.0, frame(7))], camera_judge.NUMBERED),
        ([(0.0, with_attribute(frame(7), "id", "8"))], camera_judge.NUMBERED),
        ([(0.0, frame(1, paced=True)), (1.0, frame(3, paced=True, after=2))], camera_judge.NUMBERED),
        (
            [(0.0, frame(1)), *((4.0 + number / 10, frame(2 + number)) for number in range(6))],
            camera_judge.WAITS,
        ),
        ([(0.0, dataclasses.replace(frame(1), correlation=b"x"))], camera_judge.WHOLE),
        ([(0.0, dataclasses.replace(frame(1), payload=b"no picture"))], camera_judge.WHOLE),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(said: list[tuple[float, Message]], rule: str) -> None:
    judge = CameraJudge()
    show(judge, *said)
    assert faults(judge.verdict) == [rule]


def test_a_camera_that_stops_after_answers_is_wrong() -> None:
    judge = CameraJudge()
    show(judge, (0.0, frame(0)), (4.0, frame(1)))
    judge.end(60.0, has_left=False)
    assert faults(judge.verdict) == [camera_judge.GOES_ON]


def test_a_recording_s_frame_is_awaited_once_more() -> None:
    judge = CameraJudge()
    show(judge, (0.0, frame(1, paced=True)), (0.5, frame(1, paced=True)))
    assert camera_judge.AGAIN not in " ".join(unseen(judge.verdict))
    assert not faults(judge.verdict)


class Detector:
    """A client as it should be, but for what a test changes.

    Args:
        judge: shows it frames.
    """

    def __init__(self, judge: DetectorJudge) -> None:
        self.judge = judge
        self.now_s = 0.0
        self.held: dict[str, Message] = {}
        self.waits: dict[str, Message] = {}
        self.resends = self.answers_nonsense = self.lets_go = True
        self.is_hasty = False

    def run(self) -> list[str]:
        while not self.judge.is_over(self.now_s) and self.now_s < 300:
            self._hear(self.judge.tick(self.now_s))
            self.now_s += 0.5
            if self.resends:
                for message in list(self.held.values()):
                    self._hear(self.judge.take(message, self.now_s))
        return faults(self.judge.verdict)

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            if message.topic.endswith("/taken"):
                self._let_go(message)
            else:
                self._look(message)

    def _look(self, message: Message) -> None:
        attributes = dict(message.attributes)
        number = int(message.correlation or b"")
        if attributes["type"] != "faceferry.frame.v1":
            if self.answers_nonsense:
                self._say(encode_done(Done(SOURCE, number, dropped="bad_type")))
        elif message.payload != jpeg():
            self._say(encode_done(Done(SOURCE, number, dropped="truncated_image")))
        else:
            at = times.parse_rfc3339(attributes["time"])
            found = faces.mint(SOURCE, at, jpeg(1), "image/jpeg", {"box": "1,2,3,4"})
            done = encode_done(Done(SOURCE, number, faces=(found.id,)))
            self.held[found.id] = faces.encode_face(found)
            self._say(self.held[found.id])
            if attributes.get("flow") == "paced" and not self.is_hasty:
                self.waits[found.id] = done
            else:
                self._say(done)

    def _let_go(self, message: Message) -> None:
        receipt = decode_receipt(message)
        for face_id in (*receipt.ids, *receipt.refused):
            if self.lets_go:
                self.held.pop(face_id)
            if (done := self.waits.pop(face_id, None)) is not None:
                self._say(done)

    def _say(self, message: Message) -> None:
        self._hear(self.judge.take(message, self.now_s))


SOURCE = Source("porch", "check-client")


@pytest.fixture
def detector() -> Detector:
    moments = (TIME + timedelta(seconds=number) for number in range(100))
    return Detector(DetectorJudge("porch", jpeg(), lambda: next(moments)))


def test_a_detector_that_keeps_all_rules_is_fine(detector: Detector) -> None:
    assert detector.run() == []
    assert detector.judge.verdict.is_fine, detector.judge.verdict.lines()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda it: setattr(it, "resends", False), detector_judge.AGAIN),
        (lambda it: setattr(it, "answers_nonsense", False), detector_judge.NONSENSE),
        (lambda it: setattr(it, "lets_go", False), detector_judge.STOPS),
        (lambda it: setattr(it, "is_hasty", True), detector_judge.HOLDS),
    ],
    ids=["never again", "silent", "holds on", "hasty"],
)
def test_what_is_wrong_with_a_detector_is_said(
    detector: Detector, change: Callable[[Detector], None], rule: str
) -> None:
    change(detector)
    assert detector.run() == [rule]


def test_a_detector_that_finds_nobody_is_told_that_another_picture_shows_more() -> None:
    judge = DetectorJudge("porch", jpeg(), lambda: TIME)
    for tick in range(200):
        for message in judge.tick(tick / 2):
            if message.topic.endswith("/frame"):
                judge.take(encode_done(Done(SOURCE, int(message.correlation or b""))), tick / 2)
    assert "another one with --picture" in judge.verdict.lines()[-1]
    assert not judge.verdict.is_fine
