"""What detect asks, and what it makes of silence."""

import asyncio
from dataclasses import replace

import pytest
import structlog

from services.common.errors import Refused
from services.common.mqtt import LinkDown
from services.common.wire.message import Message
from services.common.wire.seen import Seen, SeenAnswer, View, WantedFace, Why, decode_seen, encode_wanted
from services.detect import questions
from services.detect.questions import Questions
from tests.detect_clips import frame
from tests.visits_rig import sight

VIEW = View(640, 480, (sight(size=60),))
FRAME = frame(b"a picture", 3)
LIVE = replace(FRAME, paced=False)
WANTED = SeenAnswer([WantedFace(0, "20260314T120000.000000Z-0123456789abcdef", 1, 0.5, Why.FIRST)], 2.0)


class Forward:
    """Answers each question, or none."""

    def __init__(self) -> None:
        self.asked: list[Seen] = []
        self.answers = True
        self.questions = Questions("porch", self.publish)

    @property
    def answers(self) -> bool:
        return self._answers

    @answers.setter
    def answers(self, answers: bool) -> None:
        self._answers = answers
        # Where an answer comes it is waited for, however long this machine takes.
        _set_patience(60.0 if answers else 0.02)

    def publish(self, message: Message) -> None:
        self.asked.append(decode_seen(message))
        if self.answers and self.asked[-1].view.faces:
            answer = encode_wanted(self.asked[-1], WANTED)
            asyncio.get_running_loop().call_soon(self.questions.take, answer)


PATIENCE = ("PATIENCE_S", "IMPATIENCE_S", "PACED_PATIENCE_S")


def _set_patience(seconds: float) -> None:
    for name in PATIENCE:
        setattr(questions, name, seconds)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PATIENCE:
        monkeypatch.setattr(questions, name, 0.02)


async def test_what_is_wanted_is_what_forward_says() -> None:
    forward = Forward()
    assert await forward.questions.ask(LIVE, VIEW) == WANTED
    [asked] = forward.asked
    assert (asked.view, asked.answer_to) == (VIEW, forward.questions.topic)


async def test_a_live_frame_is_asked_for_once_and_a_recordings_again() -> None:
    forward = Forward()
    forward.answers = False
    assert await forward.questions.ask(LIVE, VIEW) is None
    assert len(forward.asked) == 1
    forward = Forward()
    forward.answers = False
    assert await forward.questions.ask(FRAME, VIEW) is None
    assert len(forward.asked) == questions.PACED_TRIES


async def test_a_forward_that_is_not_there_is_not_waited_for_again_and_again() -> None:
    forward = Forward()
    forward.answers = False
    for _ in range(3):
        assert await forward.questions.ask(FRAME, VIEW) is None
    assert len(forward.asked) == questions.PACED_TRIES + 2
    forward.answers = True
    assert await forward.questions.ask(FRAME, VIEW) == WANTED
    forward.answers = False
    assert await forward.questions.ask(FRAME, VIEW) is None
    assert len(forward.asked) == 2 * questions.PACED_TRIES + 3


async def test_late_and_foreign_answers_do_no_harm() -> None:
    forward = Forward()
    forward.answers = False
    assert await forward.questions.ask(LIVE, VIEW) is None
    forward.questions.take(encode_wanted(forward.asked[0], WANTED))
    forward.questions.take(replace(encode_wanted(forward.asked[0], WANTED), correlation=b"another"))
    with pytest.raises(Refused):
        forward.questions.take(Message(topic=forward.questions.topic, payload=b"{"))


async def test_without_a_connection_all_are_wanted() -> None:
    def publish(_message: Message) -> None:
        raise LinkDown("no broker")

    assert await Questions("porch", publish).ask(LIVE, VIEW) is None


async def test_questions_are_bounded_and_forgotten() -> None:
    forward = Forward()
    forward.answers = False
    asking = [asyncio.create_task(forward.questions.ask(LIVE, VIEW)) for _ in range(questions.MOST_OPEN)]
    await asyncio.sleep(0)
    assert forward.questions.is_full
    await asyncio.gather(*asking)
    assert not forward.questions.is_full


async def test_of_a_frame_without_faces_forward_is_told_and_not_asked() -> None:
    forward = Forward()
    forward.questions.tell(replace(FRAME, after=2))
    [told] = forward.asked
    assert (told.sequence, told.after, told.view.faces, told.paced) == (3, 2, (), True)


async def test_a_forward_that_answers_now_and_then_is_said_to_once() -> None:
    forward = Forward()
    with structlog.testing.capture_logs() as logs:
        for number in range(6):
            forward.answers = number % 2 == 1
            await forward.questions.ask(LIVE, VIEW)
    said = [line["event"] for line in logs]
    assert said == ["detect.forward_does_not_answer", "detect.forward_answers"]
