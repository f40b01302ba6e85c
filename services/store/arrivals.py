"""What the broker hands over, on its way into the store."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from services.common.errors import Refused
from services.common.mqtt import Delivery
from services.common.retention import Retention
from services.common.runtime import tracing
from services.common.runtime.metrics import Drops
from services.common.runtime.tracing import NO_SPAN
from services.common.wire.bare_topics import Pattern
from services.common.wire.faces import claimed_id
from services.common.wire.topics import levels_of
from services.store.admission import Admitted, admit, device_of
from services.store.answers import Answers
from services.store.metrics import REFUSED

_refusals = Drops(REFUSED, "store.face_refused")


class Arrival:
    """A message that may be a face.

    Args:
        delivery: acknowledged as soon as it is known what becomes of it.
        answers: tell the device.
        max_face_bytes: the largest image that is taken.
        bare_topics: say whose the bare images are.
        on_refused: is told whose it was.
        retention: for how long faces are kept.

    Attributes:
        device: whose it is; see `device_of`.
        size_bytes: what it takes of memory.
    """

    def __init__(
        self,
        delivery: Delivery,
        answers: Answers,
        max_face_bytes: int,
        bare_topics: Sequence[Pattern],
        on_refused: Callable[[str], None],
        *,
        retention: Retention,
    ) -> None:
        self.device = device_of(delivery.topic)
        self.size_bytes = delivery.size_bytes
        self._delivery = delivery
        self._answers = answers
        self._max_face_bytes = max_face_bytes
        self._bare_topics = bare_topics
        self._on_refused = on_refused
        self._retention = retention
        self._span = NO_SPAN

    def check(self) -> Admitted:
        """Return what it is to be stored as.

        Raises:
            Refused: it can never be stored; see `admit`.
        """
        admitted = admit(
            self._delivery.message,
            datetime.now(UTC),
            self._max_face_bytes,
            self._bare_topics,
            retention=self._retention,
        )
        self._span = tracing.go_on("store", admitted.traceparent, id=admitted.face.id)
        return admitted

    def stored(self, admitted: Admitted) -> None:
        """Send a receipt, if anybody waits for one."""
        if not admitted.is_bare:
            self._answers.stored(admitted.face.source.device, admitted.face.id)
        self._delivery.acknowledge()
        self._span.end()

    def refused(self, refusal: Refused) -> None:
        """Count it, and tell whoever listens beside the topic that it came on, be its names proper or not."""
        _refusals.count(refusal.reason, topic=self._delivery.topic[:200], detail=refusal.detail)
        if (levels := levels_of(self._delivery.topic, "face")) is not None:
            self._answers.refused(levels[0], self._claimed_id(), refusal.reason)
        self._delivery.acknowledge()
        self._on_refused(self.device)

    def _claimed_id(self) -> str:
        try:
            return claimed_id(self._delivery.message)
        except Refused:  # what is malformed names none
            return ""

    def ignored(self) -> None:
        """Let it go without a receipt."""
        self._span.end("ignored")
        self._delivery.acknowledge()
