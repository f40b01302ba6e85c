"""Takes faces from the local broker into the spool, and receipts them to detect."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from services.common.errors import Refused
from services.common.mqtt import Broker, Delivery, Link, LinkDown, PacketTooLarge
from services.common.runtime import tracing
from services.common.runtime.concurrency import Gatherer
from services.common.runtime.metrics import Drops
from services.common.wire import bare_images, bare_topics
from services.common.wire.bare_topics import HOMEWORK, Pattern, camera_of, find_source
from services.common.wire.faces import Face, check_image, claimed_id, decode_face, encode_face, mint
from services.common.wire.message import Message
from services.common.wire.receipts import MAX_IDS, FaceOutcome, encode_taken, group_outcomes
from services.common.wire.refusals import refuse_seen
from services.common.wire.topics import ROOT, Source, is_own, levels_of, parse_camera_topic
from services.forward import metrics
from services.forward.chooser import Chooser
from services.forward.delivered import Delivered
from services.forward.erasures import ErasureOrders
from services.forward.home_assistant.entities import HomeAssistant
from services.forward.metrics import LastFaceGauge
from services.forward.notifier import make_notifier
from services.forward.relay import LatestPictures
from services.forward.sender import Sender
from services.forward.settings import ForwardSettings
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import DISK_FULL
from services.forward.spool.writer import SpoolWriter
from services.forward.visits.camera_visits import VisitRules

if TYPE_CHECKING:
    from services.common.runtime.spans import Span


def admit(
    message: Message, device: str, arrived_at: datetime, bare_topics: Sequence[Pattern] = HOMEWORK
) -> Face:
    """Return the face that a message carries; a bare image becomes a face of the camera that its topic names.

    Args:
        message: from the local broker.
        device: this device, the only one whose faces are taken.
        arrived_at: the time that a bare image gets, UTC.
        bare_topics: patterns of the topics on which bare images come.

    Raises:
        Refused: the message carries no face, a face of another device, an image that the store does not take
            (see `check_image` and `bare_images.read`), or a bare image that the broker kept (`retained`).
    """
    if not is_own(message.topic):
        return _admit_bare(message, device, arrived_at, bare_topics)
    face = decode_face(message)
    if face.source.device != device:
        raise Refused("bad_topic", f"a face of {face.source}")
    # The store would refuse it too, but only after the spool and the uplink have carried it.
    check_image(face)
    return face


def _admit_bare(message: Message, device: str, arrived_at: datetime, bare_topics: Sequence[Pattern]) -> Face:
    if message.retain:
        # The broker delivers it again at each connection: it would be a new face each time.
        raise Refused("retained", "a bare image that the broker kept")
    image, info = bare_images.read(message.payload)
    # Whichever device the topic names: the cloud takes all that comes from here as this device's.
    camera = find_source(bare_topics, message.topic, Source(device, "")).camera or camera_of(message.topic)
    extensions = bare_images.describe(message.topic, info)
    return mint(Source(device, camera), arrived_at, image, info.content_type, extensions)


MOST_UNANSWERED_BYTES = 64 * 1024 * 1024
"""Faces on their way to the disk. A face beyond it is not taken, and detect sends it again."""
BUDGET_SPARE = 32
"""One part in so many of the budget has to be free again before the spool is said to have room."""

log = structlog.get_logger()


class Receiver:
    """Takes faces into custody and receipts them, for as long as there is room.

    The writer tells it what became of each face (see `InsertListener`).

    Args:
        settings: those of this process.
        writer: puts faces into the spool.
        delivered: the faces that the store has receipted lately.
        sender: is offered each face on its way into the spool, and relays the cameras' states.
        erasures: refuses faces that were erased; None if this device takes no orders to erase.

    Attributes:
        chooser: decides which faces detect should cut; None if each face is kept (`FACEFERRY_KEEP=every`).
        home: publishes for Home Assistant; None if that is off.
        latest: the pictures that the local broker keeps, of each camera the latest.
        notifier: sends a message when a visit begins; None without FACEFERRY_NOTIFY_URL.
        link: the connection to the local broker; to be entered before `run`.
    """

    def __init__(
        self,
        settings: ForwardSettings,
        writer: SpoolWriter,
        delivered: Delivered,
        sender: Sender,
        erasures: ErasureOrders | None = None,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._delivered = delivered
        self._sender = sender
        self._erasures = erasures
        self._unanswered: dict[int, Delivery] = {}
        self._spans: dict[int, Span] = {}
        self._unanswered_bytes = 0
        self._wanted_bytes: int | None = None
        self._most_bytes: int | None = None
        self._bare_topics = [bare_topics.parse(text) for text in settings.bare_topics]
        self._drops = Drops(metrics.DROPPED, "forward.message_dropped")
        self._taken: Gatherer[FaceOutcome] = Gatherer(self._publish_taken, most=MAX_IDS)
        self.notifier = make_notifier(settings)
        self._last_face_times = LastFaceGauge()
        self.home = HomeAssistant(settings.device, self._publish) if settings.home_assistant else None
        self.latest = LatestPictures(self._publish)
        if erasures is not None:
            erasures.add_holder(self.latest.erase)
            if self.notifier is not None:
                erasures.add_holder(self.notifier.erase)
        self.chooser = self._make_chooser() if settings.keep == "visits" else None
        self.link = Link(
            "local",
            Broker.local(settings),
            identity=f"forward-{settings.device}",
            subscriptions=[
                f"{ROOT}/{settings.device}/+/face",
                f"{ROOT}/{settings.device}/+/status",
                *(pattern.filter for pattern in self._bare_topics),
                *([f"{ROOT}/{settings.device}/+/seen"] if self.chooser is not None else ()),
                *([f"{ROOT}/{settings.device}/+/home"] if self.home is not None else ()),
            ],
            receive_maximum=256,
            will=self.home.status(b"offline") if self.home is not None else None,
            on_up=self._link_up,
        )

    def why_no_room(self) -> str | None:
        """Return None while faces are taken, else why not (see `http.Check`)."""
        if (problem := self._writer.problem) is not None:
            return problem
        # Looked at here, because no face may come again; with room to spare, so that it does not flicker.
        spare_bytes = self._settings.spool_max_bytes // BUDGET_SPARE
        if self._wanted_bytes is not None and self._has_room(max(self._wanted_bytes, spare_bytes)):
            self._note_budget(None)
        return None if self._wanted_bytes is None else "the spool is at its budget"

    async def run(self) -> None:
        """Handle what the local broker delivers, until cancelled."""
        async for delivery in self.link:
            # Many come at once, and asking for the next does not wait. The sender must get its turn, or what
            # it could send is pushed out of memory, and read from the disk behind newer faces.
            await asyncio.sleep(0)
            message = delivery.message
            try:
                self._handle(delivery)
            except Refused as error:
                self._refuse(message, error)
                delivery.acknowledge()

    def _handle(self, delivery: Delivery) -> None:
        message = delivery.message
        kind = message.topic.rpartition("/")[2] if is_own(message.topic) else ""
        if kind == "status":
            self._handle_status(message)
            delivery.acknowledge()
        elif kind == "home" and self.home is not None:
            self.home.take_own(message)
            delivery.acknowledge()
        elif kind == "seen":
            self._choose(message)
            delivery.acknowledge()
        else:
            self._take(delivery)

    def announce_limit(self, most_bytes: int | None) -> None:
        """Tell detect the size of the largest image that may go to the cloud, now and with each receipt.

        Args:
            most_bytes: the size; None for any.
        """
        if most_bytes != self._most_bytes:
            self._most_bytes = most_bytes
            self._publish_taken([])

    def written(self, faces: list[SpooledFace], added: int) -> None:
        """Receipt faces that are on disk; `added` of them were not held before."""
        now_s = time.time()
        for face in faces:
            self._answer(face)
            self._taken.add((face.id, None))
            self._last_face_times.note(face.camera, now_s)
            log.debug("forward.face_taken", id=face.id)
        metrics.FACES_TAKEN.inc(added)

    def turned_away(self, faces: list[SpooledFace]) -> None:
        """Give no receipt for faces that the disk does not take: detect holds them, and sends them again."""
        for face in faces:
            why = self._why_turned_away()
            self._answer(face, why)
            self._drops.count(why, id=face.id)

    def _make_chooser(self) -> Chooser:
        settings = self._settings
        rules = VisitRules(
            gap_s=settings.visit_gap_s,
            better=settings.visit_better,
            most_shots=settings.visit_most_shots,
            anew_s=settings.visit_anew_s,
        )
        return Chooser(
            rules,
            publish=self._publish,
            fill=lambda: self._writer.state.bytes / settings.spool_max_bytes,
            latest=self.latest,
            home=self.home,
            notifier=self.notifier,
        )

    def _publish(self, message: Message) -> None:
        self.link.publish(message)

    def _link_up(self) -> None:
        if self.home is not None:
            self.home.link_up()
        self.latest.link_up()

    def _handle_status(self, message: Message) -> None:
        if self.home is not None and message.topic == self.home.own_topic:
            return
        self._sender.relay.take(message)
        self.latest.knows(parse_camera_topic(message.topic, "status"))
        if self.home is not None:
            self.home.take_state(message)

    def _choose(self, message: Message) -> None:
        if self.chooser is not None:
            self.chooser.take(message)

    def _take(self, delivery: Delivery) -> None:
        face = admit(delivery.message, self._settings.device, datetime.now(UTC), self._bare_topics)
        if self._erasures is not None:
            self._erasures.check(face.source, face.id, face.extensions.get("visit"))
        if self._delivered.has(face.id, time.monotonic()):
            self._receipt_again(delivery, face.id)
            return
        spooled = SpooledFace(self._writer.next_sequence(), face.id, encode_face(face))
        if (why := self._why_not_taken(spooled.size_bytes)) is not None:
            # detect holds the face and sends it again; only a bare image is lost here.
            self._drops.count(why, id=face.id)
            delivery.acknowledge()
            return
        if self.chooser is not None:
            self.chooser.face_taken(face)
        self._unanswered[spooled.sequence] = delivery
        self._spans[spooled.sequence] = tracing.go_on("forward take", face.traceparent, id=face.id)
        self._unanswered_bytes += spooled.size_bytes
        # The spool first: what the cloud answers to this face has to come behind its insert.
        self._writer.put(spooled)
        self._sender.offer(spooled)

    def _why_not_taken(self, size_bytes: int) -> str | None:
        """Return why there is no room for a face of this size just now, or None if there is."""
        if self._unanswered_bytes + size_bytes > MOST_UNANSWERED_BYTES:
            return "too_many_at_once"  # QoS 0 has no receive maximum, and the disk may be slow
        if self._has_room(size_bytes):
            return None
        if self._writer.problem is None:
            self._note_budget(size_bytes)
        return self._why_turned_away()

    def _why_turned_away(self) -> str:
        problem = self._writer.problem
        return "spool_full" if problem is None or problem == DISK_FULL else "spool_unwritable"

    def _receipt_again(self, delivery: Delivery, face_id: str) -> None:
        """Receipt a face that the store has: detect has not heard of it, or a bridge brought it back."""
        self._drops.count(
            "delivered_before", id=face_id, advice="if there are many: does a bridge copy both ways?"
        )
        self._taken.add((face_id, None))
        delivery.acknowledge()

    def _refuse(self, message: Message, error: Refused) -> None:
        """Answer that a message is never taken, whenever it comes: its sender need not hold it."""
        self._drops.count(error.reason, topic=message.topic[:200], detail=error.detail)
        if levels_of(message.topic, "face") is not None:
            self._taken.add((claimed_id(message), error.reason))
        elif (answer := refuse_seen(message, error.reason)) is not None:
            # Without a link nothing can be answered; detect does not wait for long.
            with contextlib.suppress(LinkDown, PacketTooLarge):
                self._publish(answer)

    def _has_room(self, size_bytes: int) -> bool:
        # It is written to the log, then to the database: until the log is reset a face takes its room twice.
        wanted = self._writer.state.bytes + 2 * (self._unanswered_bytes + size_bytes)
        return self._writer.problem is None and wanted < self._settings.spool_max_bytes

    def _note_budget(self, wanted_bytes: int | None) -> None:
        """Note the size of a face that the budget had no room for; None when there is room again."""
        if (wanted_bytes is None) != (self._wanted_bytes is None):
            event = "forward.below_budget" if wanted_bytes is None else "forward.at_budget"
            log.warning(event, bytes=self._writer.state.bytes, max_bytes=self._settings.spool_max_bytes)
        self._wanted_bytes = wanted_bytes

    def _answer(self, face: SpooledFace, problem: str | None = None) -> None:
        if (span := self._spans.pop(face.sequence, None)) is not None:
            span.end(problem)
        if (delivery := self._unanswered.pop(face.sequence, None)) is not None:
            self._unanswered_bytes -= face.size_bytes
            delivery.acknowledge()

    def _publish_taken(self, answers: list[FaceOutcome]) -> None:
        ids, refused, unnamed = group_outcomes(answers)
        # Without a link detect gets no receipt, sends the faces again and is answered then.
        try:
            self.link.publish(
                encode_taken(self._settings.device, ids, refused, unnamed, most_bytes=self._most_bytes)
            )
        except LinkDown:
            return
        except PacketTooLarge:
            if len(answers) < 2:
                self._drops.count("receipt_too_large", id=answers[0][0] if answers else "")
                return
            self._publish_taken(answers[: len(answers) // 2])
            self._publish_taken(answers[len(answers) // 2 :])
