"""Plays detect for a client that is a camera."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.common.errors import Refused
from services.common.images import structure
from services.common.wire.frames import Done, Frame, decode_frame, encode_done
from services.common.wire.message import Message
from services.common.wire.refusals import refuse_frame
from services.conformance.advice import advice
from services.conformance.verdict import Verdict

if TYPE_CHECKING:
    from services.common.wire.topics import Source

WHOLE = "frames are as they should be"
NUMBERED = "each frame has a number of its own, and it rises"
FEW = "a camera never has more than four frames unanswered"
KNOCKS = "frames come, and go on coming, while nobody answers"
GOES_ON = "frames go on after answers of either kind"
WAITS = "no frame comes sooner than the last answer's next_s"
AGAIN = "a paced frame without an answer is sent again"

RULES = (WHOLE, NUMBERED, FEW, KNOCKS, GOES_ON)

MOST_UNANSWERED = 4
FREE_AFTER_S = 2.0
"""Seconds for which an unanswered frame of a live camera counts."""
SILENT_S = 4.0
NEXT_S = 1.5
ANSWERS = 3
"""Frames that are answered with faces, and then as many with a reason."""
LATE_S = 0.1
"""Seconds by which broker and network may delay a message."""
EARLY_S = 0.5
"""Half the period of a slow camera: the rule is about the average rate."""


@dataclass(slots=True)
class _Sent:
    came_s: float
    is_paced: bool
    is_answered: bool = False


class CameraJudge:
    """Is silent for a while, then answers each frame, first with faces and then with a reason.

    Attributes:
        subscriptions: topic filters for frames.
        verdict: the findings so far.
    """

    subscriptions = ("faceferry/+/+/frame",)

    def __init__(self) -> None:
        self._frames: dict[int, _Sent] = {}
        self._began_s: float | None = None
        self._source: Source | None = None
        self._done = self._dropped = 0
        self._due_s = float("-inf")
        self._early = 0
        self._last: int | None = None
        self.verdict = Verdict(RULES)

    def start(self, now_s: float) -> list[Message]:  # noqa: ARG002 - the client begins
        """Return the messages to send at the start."""
        return []

    def take(self, message: Message, now_s: float) -> list[Message]:
        """Take a message; return the answers to send."""
        try:
            frame = decode_frame(message)
            structure.check(frame.jpeg, message.content_type or "")
        except Refused as refusal:
            self.verdict.broken(WHOLE, advice(refusal))
            answer = refuse_frame(message, refusal.reason)
            return [] if answer is None else [answer]
        self.verdict.kept(WHOLE)
        if self._began_s is None:
            self._began_s, self._source = now_s, frame.source
            self.verdict.expect(AGAIN if frame.paced else WAITS)
        if frame.source != self._source:
            self.verdict.note(f"{frame.source} was answered and not looked at: one camera is")
            return [encode_done(Done(frame.source, frame.sequence))]
        self._look_at(frame, message, now_s)
        if now_s - self._began_s < SILENT_S:
            return []
        return [self._answer(frame, now_s)]

    def tick(self, now_s: float) -> list[Message]:  # noqa: ARG002 - it only ever answers
        """Return the messages that are due at `now_s`, seconds of a steady clock."""
        return []

    def is_over(self, now_s: float) -> bool:  # noqa: ARG002 - what was answered says it
        """Say whether all rules have been seen."""
        return self._dropped > ANSWERS

    def end(self, now_s: float, *, has_left: bool) -> None:  # noqa: ARG002 - each frame was looked at as it came
        """Conclude at the end: the client has left (`has_left`), or its time is over."""
        if self._dropped > ANSWERS:
            self.verdict.kept(GOES_ON)
        elif self._done:
            self.verdict.broken(GOES_ON, f"after {self._done + self._dropped} answers too few frames came")

    def _look_at(self, frame: Frame, message: Message, now_s: float) -> None:
        named = dict(message.attributes).get("id")
        if named != str(frame.sequence):
            self.verdict.broken(NUMBERED, f"id {named!r} with correlation data {frame.sequence}")
        if (before := self._frames.get(frame.sequence)) is not None:
            self._look_at_copy(frame, before, now_s)
            return
        if self._last is not None and frame.sequence < self._last:
            self.verdict.broken(NUMBERED, f"{frame.sequence} came behind {self._last}")
        elif self._last is not None:
            self.verdict.kept(NUMBERED)
            if frame.paced and frame.after != self._last:
                self.verdict.broken(NUMBERED, f"{frame.sequence} says that it is after {frame.after}")
        self._last = frame.sequence
        self._look_at_time(frame, now_s)
        self._frames[frame.sequence] = _Sent(now_s, frame.paced)
        self._count(now_s)

    def _look_at_copy(self, frame: Frame, before: _Sent, now_s: float) -> None:
        if not frame.paced:
            self.verdict.broken(NUMBERED, f"{frame.sequence} came twice")
        elif before.is_answered and now_s - before.came_s > FREE_AFTER_S:
            self.verdict.broken(AGAIN, f"{frame.sequence} came again although it was answered")
        elif not before.is_answered:
            self.verdict.kept(AGAIN)

    def _look_at_time(self, frame: Frame, now_s: float) -> None:
        if frame.paced or not self._done:
            return
        if now_s >= self._due_s - EARLY_S:
            self.verdict.kept(WAITS)
            return
        # So many may have been sent, or waited for a free slot, when the first answer came.
        self._early += 1
        if self._early > MOST_UNANSWERED:
            self.verdict.broken(WAITS, f"a frame came {self._due_s - now_s:.1f} s too soon")

    def _count(self, now_s: float) -> None:
        unanswered = [
            sent
            for sent in self._frames.values()
            if not sent.is_answered and (sent.is_paced or now_s - sent.came_s < FREE_AFTER_S - LATE_S)
        ]
        if len(unanswered) > MOST_UNANSWERED:
            self.verdict.broken(FEW, f"{len(unanswered)} were unanswered")
        else:
            self.verdict.kept(FEW)
        if self._began_s is not None and now_s - self._began_s > FREE_AFTER_S:
            self.verdict.kept(KNOCKS)

    def _answer(self, frame: Frame, now_s: float) -> Message:
        self._frames[frame.sequence].is_answered = True
        if self._done >= ANSWERS and (frame.paced or self.verdict.knows(WAITS)):
            self._dropped += 1
            return encode_done(Done(frame.source, frame.sequence, dropped="superseded"))
        self._done += 1
        if frame.paced:
            return encode_done(Done(frame.source, frame.sequence))
        self._due_s = now_s + NEXT_S
        return encode_done(Done(frame.source, frame.sequence, next_s=NEXT_S))
