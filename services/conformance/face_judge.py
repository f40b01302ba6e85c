"""Plays forward or the store for a client that publishes faces."""

from dataclasses import dataclass

from services.common.errors import Refused
from services.common.wire.faces import Face, check_image, claimed_id, decode_face
from services.common.wire.message import Message
from services.common.wire.receipts import FaceOutcome, encode_stored, encode_taken, group_outcomes
from services.common.wire.topics import levels_of
from services.conformance.advice import advice, malformed_numbers
from services.conformance.verdict import Verdict

WHOLE = "faces are as they should be"
QOS = "faces come at QoS 1"
AGAIN = "a face without a receipt is sent again, the same and in its time"
STOPS = "a face that is receipted is not sent again"
LETS_GO = "a face that is refused is not sent again"

RULES = (WHOLE, QOS, AGAIN, STOPS, LETS_GO)

LEAST_WAIT_S = 0.4
"""Less than the half second after which a client may resend where the broker has no subscriber."""
MOST_WAIT_S = 15.0
UNDER_WAY_S = 1.0
"""A copy that comes so soon after the answer was sent before it."""
QUIET_S = 6.0
"""Seconds after the answer in which a face must not come again."""
REASON = "check_client"
NUMBERS = ("box", "crop", "framesize", "landmarks", "score", "sharpness", "shot", "quality")


@dataclass(slots=True)
class _Seen:
    message: Message
    came_s: float
    answered_s: float | None = None
    is_refused: bool = False


class FaceJudge:
    """Delays the receipt of the first face, refuses the second, and receipts all others.

    Args:
        plays: `store` or `forward`.

    Attributes:
        subscriptions: topic filters for faces.
        verdict: the findings so far.
    """

    subscriptions = ("faceferry/+/+/face",)

    def __init__(self, plays: str) -> None:
        self._encode = encode_stored if plays == "store" else encode_taken
        self._seen: dict[str, _Seen] = {}
        self.verdict = Verdict(RULES)

    def start(self, now_s: float) -> list[Message]:  # noqa: ARG002 - the client begins
        """Return the messages to send at the start."""
        return []

    def take(self, message: Message, now_s: float) -> list[Message]:
        """Take a message; return the answers to send."""
        try:
            face = decode_face(message)
            check_image(face)
        except Refused as refusal:
            self.verdict.broken(WHOLE, advice(refusal))
            levels = levels_of(message.topic, "face")
            return [] if levels is None else [self._answer(levels[0], (claimed_id(message), refusal.reason))]
        self._look_at(face, message)
        seen = self._seen.get(face.id)
        if seen is None:
            return self._take_first(face, message, now_s)
        return self._take_copy(face, seen, message, now_s)

    def tick(self, now_s: float) -> list[Message]:
        """Return the messages that are due at `now_s`, seconds of a steady clock."""
        answers: list[Message] = []
        for face_id, seen in self._seen.items():
            if seen.answered_s is not None:
                if now_s - seen.answered_s > QUIET_S:
                    self.verdict.kept(LETS_GO if seen.is_refused else STOPS)
            elif now_s - seen.came_s > MOST_WAIT_S:
                self.verdict.broken(AGAIN, f"{face_id} did not come again within {MOST_WAIT_S:g} s")
                answers.append(self._settle(_device(seen.message), face_id, seen, now_s))
        return answers

    def is_over(self, now_s: float) -> bool:  # noqa: ARG002 - what was seen says it
        """Say whether all rules have been seen."""
        is_answered = all(seen.answered_s is not None for seen in self._seen.values())
        return is_answered and all(map(self.verdict.knows, (AGAIN, STOPS, LETS_GO)))

    def end(self, now_s: float, *, has_left: bool) -> None:
        """Conclude at the end: the client has left (`has_left`), or its time is over."""
        for face_id, seen in self._seen.items():
            if seen.answered_s is None and has_left:
                self.verdict.broken(AGAIN, f"the client left while {face_id} had no receipt")
            elif seen.answered_s is not None and (has_left or now_s - seen.answered_s > QUIET_S):
                self.verdict.kept(LETS_GO if seen.is_refused else STOPS)

    def _look_at(self, face: Face, message: Message) -> None:
        self.verdict.kept(WHOLE)
        if message.qos == 1:
            self.verdict.kept(QOS)
        else:
            self.verdict.broken(QOS, f"{face.id} came at QoS {message.qos}")
        for note in malformed_numbers(face, NUMBERS):
            self.verdict.note(note)

    def _take_first(self, face: Face, message: Message, now_s: float) -> list[Message]:
        seen = self._seen[face.id] = _Seen(message, now_s, is_refused=len(self._seen) == 1)
        if len(self._seen) == 1:
            return []
        return [self._settle(face.source.device, face.id, seen, now_s)]

    def _take_copy(self, face: Face, seen: _Seen, message: Message, now_s: float) -> list[Message]:
        if seen.answered_s is None:
            self._look_at_copy(face, seen, message, now_s)
        elif now_s - seen.answered_s > UNDER_WAY_S:
            rule = LETS_GO if seen.is_refused else STOPS
            self.verdict.broken(
                rule, f"{face.id} came again {now_s - seen.answered_s:.1f} s after its answer"
            )
        return [self._settle(face.source.device, face.id, seen, now_s)]

    def _look_at_copy(self, face: Face, seen: _Seen, message: Message, now_s: float) -> None:
        waited_s = now_s - seen.came_s
        if sorted(message.attributes) != sorted(seen.message.attributes):
            self.verdict.broken(AGAIN, f"the copy of {face.id} has other attributes")
        elif waited_s < LEAST_WAIT_S:
            self.verdict.broken(AGAIN, f"{face.id} came again after {waited_s:.2f} s; 2 s are right")
        else:
            self.verdict.kept(AGAIN)

    def _settle(self, device: str, face_id: str, seen: _Seen, now_s: float) -> Message:
        seen.answered_s = now_s if seen.answered_s is None else seen.answered_s
        return self._answer(device, (face_id, REASON if seen.is_refused else None))

    def _answer(self, device: str, answer: FaceOutcome) -> Message:
        return self._encode(device, *group_outcomes([answer]))


def _device(message: Message) -> str:
    return message.topic.split("/")[1]
