"""Received messages on their way into the store, and the receipts for them."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from services.common.errors import Refused
from services.common.mqtt import Delivery, LinkDown, PacketTooLarge
from services.common.retention import Retention
from services.common.runtime import tracing
from services.common.runtime.metrics import Drops
from services.common.runtime.spans import NO_SPAN
from services.common.wire.bare_topics import Pattern
from services.common.wire.faces import claimed_id
from services.common.wire.message import Message
from services.common.wire.receipts import MAX_IDS, FaceOutcome, encode_stored, group_outcomes
from services.common.wire.topics import levels_of
from services.store.admission import Admitted, admit, device_of
from services.store.metrics import DROPPED, RECEIPTED, REFUSED

DELAY_S = 0.02
"""How long a receipt may wait for others. One timer serves all devices, so that receipts to many devices go
out together: of ten thousand devices each has one due now and then."""

_drops = Drops(DROPPED, "store.receipt_dropped")


class ReceiptBatches:
    """Gathers receipts for some milliseconds and sends them to each device together.

    A batch that cannot be sent is dropped and counted: the device sends its faces again, and is answered
    again.

    Args:
        publish: sends a message, or raises `LinkDown` or `PacketTooLarge`.
    """

    def __init__(self, publish: Callable[[Message], None]) -> None:
        self._publish = publish
        # Only devices with receipts due are here: names come from the network, so they must not pile up.
        self._due: dict[str, list[FaceOutcome]] = {}

    def stored(self, device: str, face_id: str) -> None:
        """Send a receipt: the face is durable."""
        self._add(device, (face_id, None))

    def refused(self, device: str, claimed: str, reason: str) -> None:
        """Send a refusal, which is final.

        Args:
            device: its name as the topic has it, which may not be a proper name.
            claimed: the id that the message claims, proper or not; empty where it claims none.
            reason: why the face can never be stored.
        """
        self._add(device, (claimed, reason))

    def _add(self, device: str, answer: FaceOutcome) -> None:
        if not self._due:
            asyncio.get_running_loop().call_later(DELAY_S, self._send_all)
        receipts = self._due.setdefault(device, [])
        receipts.append(answer)
        if len(receipts) >= MAX_IDS:
            self._send(device, receipts)
            receipts.clear()

    def _send_all(self) -> None:
        due, self._due = self._due, {}
        for device, receipts in due.items():
            if receipts:
                self._send(device, receipts)

    def _send(self, device: str, receipts: list[FaceOutcome]) -> None:
        stored, refused, unnamed = group_outcomes(receipts)
        try:
            self._publish(encode_stored(device, stored, refused, unnamed))
        except LinkDown:
            _drops.count("receipt_link_down", device=device)
        except PacketTooLarge:
            _drops.count("receipt_too_large", device=device)
        else:
            RECEIPTED.labels("stored").inc(len(stored))
            RECEIPTED.labels("refused").inc(len(refused) + len(unnamed))


_refusals = Drops(REFUSED, "store.face_refused")


class IncomingFace:
    """A received message that may be a face; see `face_writer.Incoming`.

    Args:
        delivery: the message; acknowledged when it is stored, refused or ignored.
        receipts: carry the outcome to the device.
        max_face_bytes: the largest image that is accepted.
        bare_topics: give device and camera of images without properties.
        on_refused: is called with the device of a message that is refused.
        retention: for how long faces are kept.

    Attributes:
        device: which sent it; see `device_of`.
        size_bytes: the memory that the message takes.
    """

    def __init__(
        self,
        delivery: Delivery,
        receipts: ReceiptBatches,
        max_face_bytes: int,
        bare_topics: Sequence[Pattern],
        on_refused: Callable[[str], None],
        *,
        retention: Retention,
    ) -> None:
        self.device = device_of(delivery.topic)
        self.size_bytes = delivery.size_bytes
        self._delivery = delivery
        self._receipts = receipts
        self._max_face_bytes = max_face_bytes
        self._bare_topics = bare_topics
        self._on_refused = on_refused
        self._retention = retention
        self._span = NO_SPAN

    def check(self) -> Admitted:
        """Return the face that it holds, and continue its trace if it has one.

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
        """Send a receipt, unless it is a bare image, whose sender expects none."""
        if not admitted.is_bare:
            self._receipts.stored(admitted.face.source.device, admitted.face.id)
        self._delivery.acknowledge()
        self._span.end()

    def refused(self, refusal: Refused) -> None:
        """Count it, and send the refusal to the device that its topic names, proper name or not."""
        _refusals.count(refusal.reason, topic=self._delivery.topic[:200], detail=refusal.detail)
        if (levels := levels_of(self._delivery.topic, "face")) is not None:
            self._receipts.refused(levels[0], self._claimed_id(), refusal.reason)
        self._delivery.acknowledge()
        self._on_refused(self.device)

    def _claimed_id(self) -> str:
        try:
            return claimed_id(self._delivery.message)
        except Refused:  # the properties are malformed, and so is any id in them
            return ""

    def ignored(self) -> None:
        """Drop it without a receipt: the sender still has it."""
        self._span.end("ignored")
        self._delivery.acknowledge()
