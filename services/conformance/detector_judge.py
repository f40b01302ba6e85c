"""Plays capture and forward for a client that is a detector."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.errors import Refused
from services.common.wire.faces import Face, check_image, decode_face
from services.common.wire.frames import Done, Frame, decode_done, encode_frame
from services.common.wire.message import Message
from services.common.wire.receipts import encode_taken
from services.common.wire.topics import Source
from services.conformance.advice import advice, malformed_numbers
from services.conformance.verdict import Verdict

ANSWERS = "each frame is answered on done, with its correlation data"
NAMES = "an answer names the faces that were published"
WHOLE = "faces are as they should be, with their frame's source and time"
AGAIN = "a face without a receipt is sent again"
STOPS = "a face that is receipted or refused is not sent again"
HOLDS = "a paced frame is answered when its faces are receipted, and not before"
SPOILED = "a frame that cannot be decoded is answered with a reason"
NONSENSE = "a message that is no frame is answered with a reason"

RULES = (ANSWERS, NAMES, WHOLE, AGAIN, STOPS, HOLDS, SPOILED, NONSENSE)

PATIENCE_S = 5.0
AGAIN_S = 15.0
HELD_S = 1.5
QUIET_S = 6.0
UNDER_WAY_S = 1.0
REASON = "check_client"
NUMBERS = ("box", "framesize", "landmarks", "score")


@dataclass
class _Exchange:
    """A frame, and what the client sent for it; times are seconds of a steady clock.

    Attributes:
        rule: the rule that it tests.
        frame: the frame.
        began_s: when it was sent.
        done: its answer, or None.
        done_s: when the answer came.
        faces: when each face last came, by id.
        answered_s: when each face was receipted or refused, by id.
    """

    rule: str
    frame: Frame
    began_s: float
    done: Done | None = None
    done_s: float = 0.0
    faces: dict[str, float] = field(default_factory=dict)
    answered_s: dict[str, float] = field(default_factory=dict)


class DetectorJudge:
    """Sends a picture as a live frame, cut off, with a wrong type, and paced, one after the other.

    Args:
        device: the device of the camera that it plays.
        picture: a JPEG with a face.
        clock: returns the time of frames, UTC.

    Attributes:
        subscriptions: topic filters for answers and faces.
        verdict: the findings so far.
    """

    def __init__(self, device: str, picture: bytes, clock: Callable[[], datetime]) -> None:
        self._source = Source(device, "check-client")
        self._picture = picture
        self._clock = clock
        self._sequence = itertools.count(1)
        self._exchanges: list[_Exchange] = []
        self._steps = self._play()
        self._is_over = False
        self._now_s = 0.0
        self.subscriptions = (f"faceferry/{device}/+/done", f"faceferry/{device}/+/face")
        self.verdict = Verdict(RULES)

    def start(self, now_s: float) -> list[Message]:
        """Return the messages to send at the start."""
        return self.tick(now_s)

    def take(self, message: Message, now_s: float) -> list[Message]:
        """Take a message; return the answers to send."""
        self._now_s = now_s
        try:
            if message.topic.endswith("/done"):
                self._take_done(decode_done(message), now_s)
            else:
                face = decode_face(message)
                check_image(face)
                return self._take_face(face, now_s)
        except Refused as refusal:
            rule = ANSWERS if message.topic.endswith("/done") else WHOLE
            self.verdict.broken(rule, advice(refusal))
        return []

    def tick(self, now_s: float) -> list[Message]:
        """Return the messages that are due at `now_s`, seconds of a steady clock."""
        self._now_s = now_s
        due = next(self._steps, None)
        self._is_over = due is None
        return due or []

    def is_over(self, now_s: float) -> bool:  # noqa: ARG002 - the last step says it
        """Say whether all rules have been seen."""
        return self._is_over

    def end(self, now_s: float, *, has_left: bool) -> None:  # noqa: ARG002 - each step has concluded for itself
        """Conclude at the end: the client has left (`has_left`), or its time is over."""
        if has_left:
            self.verdict.broken(ANSWERS, "the client left")

    def _play(self) -> Iterator[list[Message]]:
        """Yield at each tick the messages to send; a step ends when it has seen enough."""
        yield from self._live()
        yield from self._answered_with_a_reason(SPOILED, self._picture[: len(self._picture) // 2], ())
        yield from self._answered_with_a_reason(NONSENSE, self._picture, (("type", "nonsense"),))
        yield from self._paced()
        yield from self._quiet()

    def _live(self) -> Iterator[list[Message]]:
        # The client may still be starting: the picture is sent again until it answers.
        for _ in range(6):
            exchange = self._begin(ANSWERS, self._picture)
            yield [encode_frame(exchange.frame)]
            yield from self._until(lambda exchange=exchange: exchange.done or exchange.faces, PATIENCE_S)  # type: ignore[misc]
            if exchange.done is not None or exchange.faces:
                break
        yield from self._until(lambda: exchange.done is not None, PATIENCE_S)
        self._conclude_answer(exchange)
        if not exchange.faces:
            self.verdict.note("no face was found in the picture: give another one with --picture")
            return
        yield from self._until(lambda: self.verdict.knows(AGAIN), AGAIN_S)
        if not self.verdict.knows(AGAIN):
            self.verdict.broken(AGAIN, f"none of {len(exchange.faces)} faces came again within {AGAIN_S:g} s")
        yield [self._settle(exchange, is_refused=False)]

    def _answered_with_a_reason(
        self, rule: str, picture: bytes, attributes: tuple[tuple[str, str], ...]
    ) -> Iterator[list[Message]]:
        exchange = self._begin(rule, picture)
        message = encode_frame(exchange.frame)
        yield [replace(message, attributes=attributes) if attributes else message]
        yield from self._until(lambda: exchange.done is not None, PATIENCE_S)
        if exchange.done is None:
            self.verdict.broken(rule, f"no answer within {PATIENCE_S:g} s")
        elif exchange.done.dropped is None:
            self.verdict.broken(rule, "it was answered as if it had been looked at")
        else:
            self.verdict.kept(rule)

    def _paced(self) -> Iterator[list[Message]]:
        exchange = self._begin(HOLDS, self._picture, paced=True)
        yield [encode_frame(exchange.frame)]
        yield from self._until(lambda: exchange.faces or exchange.done, 2 * PATIENCE_S)
        if not exchange.faces:
            return
        yield from self._until(lambda: exchange.done is not None, HELD_S)
        if exchange.done is not None:
            self.verdict.broken(HOLDS, "it was answered while its faces had no receipt")
        yield [self._settle(exchange, is_refused=True)]
        yield from self._until(lambda: exchange.done is not None, PATIENCE_S)
        self._conclude_answer(exchange)
        if exchange.done is None:
            self.verdict.broken(HOLDS, f"no answer within {PATIENCE_S:g} s of the receipt")
        else:
            self.verdict.kept(HOLDS)

    def _quiet(self) -> Iterator[list[Message]]:
        yield from self._until(lambda: False, QUIET_S)
        if any(exchange.answered_s for exchange in self._exchanges):
            self.verdict.kept(STOPS)

    def _until(self, is_so: Callable[[], object], most_s: float) -> Iterator[list[Message]]:
        until_s = self._now_s + most_s
        while not is_so() and self._now_s < until_s:
            yield []

    def _begin(self, rule: str, picture: bytes, *, paced: bool = False) -> _Exchange:
        frame = Frame(self._source, next(self._sequence), self._clock(), picture, paced=paced)
        self._exchanges.append(_Exchange(rule, frame, self._now_s))
        return self._exchanges[-1]

    def _settle(self, exchange: _Exchange, *, is_refused: bool) -> Message:
        exchange.answered_s |= dict.fromkeys(exchange.faces, self._now_s)
        ids = list(exchange.faces)
        refused = dict.fromkeys(ids, REASON) if is_refused else {}
        return encode_taken(self._source.device, [] if is_refused else ids, refused)

    def _take_done(self, done: Done, now_s: float) -> None:
        exchange = next((each for each in self._exchanges if each.frame.sequence == done.sequence), None)
        if exchange is None or done.source != self._source:
            self.verdict.broken(ANSWERS, f"an answer to {done.source} {done.sequence}, which was not sent")
        elif exchange.done is None:
            exchange.done, exchange.done_s = done, now_s

    def _take_face(self, face: Face, now_s: float) -> list[Message]:
        exchange = next((each for each in self._exchanges if each.frame.time == face.time), None)
        if exchange is None or face.source != self._source:
            self.verdict.broken(WHOLE, f"{face.id} of {face.source} is of no frame that was sent")
            return []
        self.verdict.kept(WHOLE)
        for note in malformed_numbers(face, NUMBERS):
            self.verdict.note(note)
        if face.id in exchange.answered_s:
            return self._take_again(exchange, face.id, now_s)
        if face.id in exchange.faces:
            self.verdict.kept(AGAIN)
        exchange.faces[face.id] = now_s
        return []

    def _take_again(self, exchange: _Exchange, face_id: str, now_s: float) -> list[Message]:
        since_s = now_s - exchange.answered_s[face_id]
        if since_s > UNDER_WAY_S:
            self.verdict.broken(STOPS, f"{face_id} came again {since_s:.1f} s after its answer")
        return []

    def _conclude_answer(self, exchange: _Exchange) -> None:
        if exchange.done is None:
            self.verdict.broken(ANSWERS, f"frame {exchange.frame.sequence} had no answer")
            return
        self.verdict.kept(ANSWERS)
        if exchange.done.dropped is not None:
            self.verdict.broken(NAMES, f"a good picture was dropped: {exchange.done.dropped}")
        elif set(exchange.done.faces) != set(exchange.faces):
            said, came = len(exchange.done.faces), len(exchange.faces)
            self.verdict.broken(NAMES, f"{said} were named, {came} came, and they are not the same")
        else:
            self.verdict.kept(NAMES)
