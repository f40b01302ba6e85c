"""Faces that cannot be delivered as things are, for no fault of theirs."""

from collections.abc import Callable

from services.common.drops import Drops
from services.forward import metrics
from services.forward.orders import PutBack, SetAside
from services.forward.rows import DAMAGED, OTHER_DEVICE, Request
from services.forward.spooled import SpooledFace
from services.forward.writer import SpoolWriter

TOO_LARGE = "packet_too_large"
TRY_AGAIN_EVERY_S = 300.0
PASSING_REFUSALS = frozenset({"quota_exceeded", "packet_identifier_in_use"})
"""What a broker says of its own state and not of the face: it is sent again in time, as if lost."""
MANY_IN_A_ROW = 10
"""So many refusals and no success in between are no single face's trouble."""

SURE_AFTER = 3
"""So many refusals of a topic, and no face of it taken, are the rule: brokers know topics, not faces."""

_ONLY_WHEN_ASKED = frozenset({DAMAGED, OTHER_DEVICE, TOO_LARGE})


class Apart:
    """Keeps such faces out of the way of others, and tries them again when things may have changed.

    What the broker refuses may be allowed the next day: now and then, and at each new connection, one of
    each reason goes back among those that wait, and when the store has that one, all of them do. What is too
    large for a broker goes back as soon as there is one with room.

    Args:
        writer: moves them.
        withdraw: takes a face out of what is to be sent.
    """

    def __init__(self, writer: SpoolWriter, withdraw: Callable[[str], object]) -> None:
        self._writer = writer
        self._withdraw = withdraw
        self._asides = Drops(metrics.SET_ASIDE, "forward.face_set_aside")
        self._tried: dict[str, str] = {}
        self._refused_topics: dict[str, tuple[int, str]] = {}
        self._refused_in_a_row = 0
        self._last_refusal: str | None = None

    def why_not_ready(self) -> str | None:
        """Return nothing while the broker takes faces, else what is wrong (see `health.Check`)."""
        if self._refused_in_a_row < MANY_IN_A_ROW:
            return None
        return f"the broker refuses our faces: {self._last_refusal}"

    def why_not_sent(self, face: SpooledFace) -> str | None:
        """Return why a face need not even be sent, if the broker refuses its topic."""
        count, refusal = self._refused_topics.get(face.message.topic, (0, ""))
        if count < SURE_AFTER or face.id in self._tried:
            return None
        self._refused_in_a_row += 1
        return refusal

    def broker_answered(self, face: SpooledFace, refusal: str | None) -> bool:
        """Take the broker's answer to a face; say whether it has it, or may have it when it is sent again."""
        topic = face.message.topic
        if refusal is None:
            self._refused_in_a_row = 0
            self._refused_topics.pop(topic, None)
            return True
        self._refused_in_a_row += 1
        self._last_refusal = refusal
        if refusal in PASSING_REFUSALS:
            return True
        count, _ = self._refused_topics.get(topic, (0, ""))
        self._refused_topics[topic] = (count + 1, refusal)
        self.set_aside(face.id, refusal)
        return False

    def set_aside(self, face_id: str, reason: str, detail: str = "") -> None:
        """Keep a face apart, so that it holds up no other."""
        self._asides.count(reason, id=face_id, detail=detail)
        self._tried.pop(face_id, None)
        self._withdraw(face_id)
        self._writer.put(SetAside(face_id, reason))

    def try_again(self, max_packet_bytes: int) -> None:
        """Try what may be possible by now, over a broker that takes packets of this size."""
        self._refused_topics.clear()
        self._writer.put(PutBack(Request(reason=TOO_LARGE, most_bytes=max_packet_bytes)))
        for reason in self._writer.state.set_aside:
            if reason not in _ONLY_WHEN_ASKED:
                self._writer.put(PutBack(Request(reason=reason), most=1))

    def is_tried(self, reason: str, ids: list[str]) -> None:
        """Remember which faces are tried for all of their reason."""
        self._tried |= dict.fromkeys(ids, reason)

    def stored(self, face_id: str) -> None:
        """See whether the store has a face that was tried for others."""
        if (reason := self._tried.pop(face_id, None)) is not None:
            self._writer.put(PutBack(Request(reason=reason)))
