"""Faces that the broker or the store does not take at present: set aside, and tried again."""

from collections.abc import Callable
from dataclasses import dataclass

from services.common.runtime.metrics import Drops
from services.forward import metrics
from services.forward.spool.commands import PutBack, PutBackRequest, SetAside, Unsendable
from services.forward.spool.face import SpooledFace
from services.forward.spool.rows import DAMAGED, OTHER_DEVICE, TOO_LARGE
from services.forward.spool.writer import SpoolWriter

TRY_AGAIN_EVERY_S = 300.0
PASSING_REFUSALS = frozenset({"quota_exceeded", "packet_identifier_in_use"})
"""Refusals for the broker's own state, not for the face: it is sent again later, as if it were lost."""
OF_TOPICS = frozenset({"not_authorized", "topic_name_invalid"})
"""Refusals of a topic, and so of every face on it."""
SURE_AFTER = 3
"""After so many refusals in a row a topic counts as refused."""
PROBE_EVERY_S = 3.0
"""How often one face is sent on a refused topic all the same: no broker tells that its rules have changed."""

PACKET_MARGIN_BYTES = 4 * 1024
"""What a face's message has beside its image, at most."""
LEAST_IMAGE_BYTES = 4 * 1024
ANY_IMAGE_BYTES = 16 * 1024 * 1024
"""A broker that takes so much takes any face."""

MOST_TOPICS = 1_000
"""Topics of which it is remembered that the broker has taken a face."""
MOST_TOPICS_UNREAD = 100
"""Refused topics that a read of the spool leaves out: each of them is compared with each row."""

_ONLY_WHEN_ASKED = frozenset({DAMAGED, OTHER_DEVICE, TOO_LARGE})


@dataclass(slots=True)
class _Refused:
    """How many times the broker has refused a topic, why, and when a face was last sent on it."""

    reason: str
    count: int = 0
    probed_s: float = 0.0

    @property
    def is_sure(self) -> bool:
        return self.count >= SURE_AFTER


class Undeliverable:
    """Sets such faces aside, so that they delay no others, and puts them back when that may help.

    The broker may allow tomorrow what it refuses today: every few minutes, and at each new connection, one
    face of each reason is put back, and when the store has that one, all of them are. What is too large for
    a broker is put back as soon as one takes it.

    Args:
        writer: moves faces in the spool.
        withdraw: removes a face, by its id, from those that are to be sent.
    """

    def __init__(self, writer: SpoolWriter, withdraw: Callable[[str], object]) -> None:
        self._writer = writer
        self._withdraw = withdraw
        self._asides = Drops(metrics.SET_ASIDE, "forward.face_set_aside")
        self._tried: dict[str, str] = {}
        self._refused: dict[str, _Refused] = {}
        self._accepted: set[str] = set()
        self._put_off, self._put_off_for = 0, ""
        self._room_bytes = 0

    def why_not_ready(self) -> str | None:
        """Return None while the broker takes faces, else what is wrong (see `http.Check`)."""
        refused = [each.reason for each in self._refused.values() if each.is_sure]
        if self._put_off >= SURE_AFTER:
            refused.append(self._put_off_for)
        elif self._accepted:
            return None
        return f"the broker refuses our faces: {refused[0]}" if refused else None

    def why_not_sent(self, topic: str, face_id: str, now_s: float) -> str | None:
        """Return why a face need not be sent, or None: the broker refuses its topic."""
        refused = self._refused.get(topic)
        if refused is None or not refused.is_sure or face_id in self._tried:
            return None
        if now_s - refused.probed_s > PROBE_EVERY_S:
            refused.probed_s = now_s
            return None
        return refused.reason

    def unsendable(self, max_packet_bytes: int, now_s: float) -> Unsendable:
        """Return which faces need not be read, with a broker that takes packets of this size."""
        refused = {
            topic: each.reason
            for topic, each in self._refused.items()
            if each.is_sure and now_s - each.probed_s <= PROBE_EVERY_S
        }
        return Unsendable(max_packet_bytes, dict(list(refused.items())[:MOST_TOPICS_UNREAD]))

    def broker_answered(self, face: SpooledFace, refusal: str | None) -> bool:
        """Take the broker's answer to a face: None, or why it refuses it.

        Returns:
            whether a receipt is to be waited for; else the face was set aside.
        """
        topic = face.message.topic
        if refusal is None:
            self._accept(topic)
            return True
        if refusal in PASSING_REFUSALS:
            self._put_off, self._put_off_for = self._put_off + 1, refusal
            return True
        if refusal in OF_TOPICS:
            self._accepted.discard(topic)
            self._refused.setdefault(topic, _Refused(refusal)).count += 1
        self.set_aside(face.id, refusal)
        return False

    def _accept(self, topic: str) -> None:
        self._put_off = 0
        if len(self._accepted) < MOST_TOPICS:
            self._accepted.add(topic)
        if (was := self._refused.pop(topic, None)) is not None and was.is_sure:
            self._writer.put(PutBack(PutBackRequest(reason=was.reason)))

    def set_aside(self, face_id: str, reason: str, detail: str = "") -> None:
        """Set a face aside, and count and log why."""
        self._asides.count(reason, id=face_id, detail=detail)
        self._tried.pop(face_id, None)
        self._withdraw(face_id)
        self._writer.put(SetAside(face_id, reason))

    def try_again(self, max_packet_bytes: int) -> None:
        """Put back what may be possible by now, with a broker that takes packets of this size."""
        self._refused.clear()
        self.has_room(max_packet_bytes)
        for reason in self._writer.state.set_aside:
            if reason not in _ONLY_WHEN_ASKED:
                self._writer.put(PutBack(PutBackRequest(reason=reason), most=1))

    def has_room(self, max_packet_bytes: int) -> None:
        """Put back what was too large, and fits into packets of this size."""
        self._writer.put(PutBack(PutBackRequest(reason=TOO_LARGE, most_bytes=max_packet_bytes)))

    def new_broker(self, max_packet_bytes: int) -> None:
        """Forget what another connection has answered, which may be another broker's, and try all anew."""
        self._put_off = 0
        self._accepted.clear()
        self._room_bytes = max_packet_bytes
        self.try_again(max_packet_bytes)

    def note_room(self, max_packet_bytes: int) -> None:
        """Take note of what the broker takes now; brokers that share one address may differ."""
        if max_packet_bytes > self._room_bytes:
            self.has_room(max_packet_bytes)
        self._room_bytes = max_packet_bytes

    @property
    def most_image_bytes(self) -> int | None:
        """The largest image that goes to the cloud, by the last broker that was there, or None for any."""
        if self._room_bytes >= ANY_IMAGE_BYTES or not self._room_bytes:
            return None
        return max(LEAST_IMAGE_BYTES, self._room_bytes - PACKET_MARGIN_BYTES)

    def note_tried(self, reason: str, ids: list[str]) -> None:
        """Remember faces that were put back to find out whether all of their reason may be."""
        self._tried |= dict.fromkeys(ids, reason)

    def stored(self, face_id: str) -> None:
        """Note a face that the store has; if it was tried for others of its reason, put those back."""
        if (reason := self._tried.pop(face_id, None)) is not None:
            self._writer.put(PutBack(PutBackRequest(reason=reason)))
