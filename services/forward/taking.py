"""From the local broker into the spool."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from services.common.batches import Batch
from services.common.drops import Drops
from services.common.errors import Refused
from services.common.faces import encode_face
from services.common.message import Message
from services.common.mqtt import Broker, Delivery, Link, LinkDown
from services.common.receipts import MAX_IDS, encode_taken
from services.common.topics import BARE_IMAGES, ROOT
from services.forward import metrics
from services.forward.intake import admit
from services.forward.settings import ForwardSettings
from services.forward.spooled import SpooledFace
from services.forward.writer import SpoolWriter

log = structlog.get_logger()


class Taker:
    """Takes faces into custody and receipts them, for as long as there is room.

    Args:
        settings: forward's.
        writer: puts faces into the spool.
        last_sequence: the newest face already there.
        offer: is told of each face on its way into the spool.
        relay: is handed the cameras' states.
    """

    def __init__(
        self,
        settings: ForwardSettings,
        writer: SpoolWriter,
        last_sequence: int,
        *,
        offer: Callable[[SpooledFace], None],
        relay: Callable[[Message], None],
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._sequence = last_sequence
        self._offer = offer
        self._relay = relay
        self._unanswered: dict[int, Delivery] = {}
        self._unanswered_bytes = 0
        self._is_at_budget = False
        self._drops = Drops(metrics.DROPPED, "forward.message_dropped")
        self._taken: Batch[str] = Batch(self._publish_taken, most=MAX_IDS)
        self.link = Link(
            "local",
            Broker.local(settings),
            identity=f"forward-{settings.device}",
            subscriptions=[
                f"{ROOT}/{settings.device}/+/face",
                f"{ROOT}/{settings.device}/+/status",
                BARE_IMAGES,
            ],
            receive_maximum=256,
        )

    def why_no_room(self) -> str | None:
        """Return nothing while faces are taken (see `health.Check`)."""
        if self._writer.is_full:
            return "the disk is full"
        return "the spool is at its budget" if self._is_at_budget else None

    async def run(self) -> None:
        """Take what comes until cancelled."""
        async for delivery in self.link:
            message = delivery.message
            try:
                if message.topic.endswith("/status"):
                    self._relay(message)
                    delivery.acknowledge()
                else:
                    self._take(delivery)
            except Refused as error:
                self._drops.count(error.reason, topic=message.topic[:200], detail=error.detail)
                delivery.acknowledge()

    def written(self, faces: list[SpooledFace]) -> None:
        """Receipt faces that are on disk."""
        for face in faces:
            self._answer(face)
            self._taken.add(face.id)
            log.info("forward.face_taken", id=face.id)
        metrics.FACES_TAKEN.inc(len(faces))

    def not_written(self, faces: list[SpooledFace]) -> None:
        """Leave faces for which the disk has no room with detect, which sends them again."""
        for face in faces:
            self._answer(face)
            self._drops.count("spool_full", id=face.id)

    def _take(self, delivery: Delivery) -> None:
        face = admit(delivery.message, self._settings.device, datetime.now(UTC))
        self._sequence += 1
        spooled = SpooledFace(self._sequence, face.id, encode_face(face))
        self._note_budget(is_reached=not self._has_room(spooled.size_bytes))
        if self._is_at_budget:
            # detect holds the face until it is taken and sends it again; only a bare image ends here.
            raise Refused("spool_full", "the face was not taken")
        self._unanswered[spooled.sequence] = delivery
        self._unanswered_bytes += spooled.size_bytes
        # The spool first: whatever the cloud says of this face comes behind the insert.
        self._writer.put(spooled)
        self._offer(spooled)

    def _has_room(self, size_bytes: int) -> bool:
        wanted = self._writer.state.bytes + self._unanswered_bytes + size_bytes
        return not self._writer.is_full and wanted < self._settings.spool_max_bytes

    def _note_budget(self, *, is_reached: bool) -> None:
        if is_reached != self._is_at_budget:
            event = "forward.at_budget" if is_reached else "forward.below_budget"
            log.warning(event, bytes=self._writer.state.bytes, max_bytes=self._settings.spool_max_bytes)
        self._is_at_budget = is_reached

    def _answer(self, face: SpooledFace) -> None:
        if (delivery := self._unanswered.pop(face.sequence, None)) is not None:
            self._unanswered_bytes -= face.size_bytes
            delivery.acknowledge()

    def _publish_taken(self, ids: list[str]) -> None:
        # Without a link detect hears nothing, sends the faces again and is answered then.
        with contextlib.suppress(LinkDown):
            self.link.publish(encode_taken(self._settings.device, ids))
