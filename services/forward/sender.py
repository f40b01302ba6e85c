"""Publishes faces to the cloud's broker, and acts on the receipts of the store."""

import asyncio
import contextlib
import dataclasses
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from services.common.erasure.reports import Report
from services.common.erasure.selection import ERASED
from services.common.errors import Refused
from services.common.mqtt import NO_SUBSCRIBERS, Broker, Link, LinkDown, PacketTooLarge
from services.common.mqtt.reasons import RATE_TOO_HIGH
from services.common.retention import EXPIRED
from services.common.runtime import tracing
from services.common.runtime.concurrency import Gatherer
from services.common.runtime.metrics import Drops
from services.common.wire.message import Message
from services.common.wire.receipts import MAX_IDS, Receipt, decode_receipt
from services.common.wire.topics import device_topic
from services.forward import metrics
from services.forward.congestion import CongestionWindow, MessageSpacing, TokenBucket
from services.forward.delivered import Delivered
from services.forward.erasures import ErasureOrders
from services.forward.outbox import FaceToSend, Outbox
from services.forward.relay import OwnStatus, StatusRelay
from services.forward.settings import ForwardSettings
from services.forward.spool.commands import BacklogPart, BacklogRead, Delete, Quarantine
from services.forward.spool.expiry import is_expired
from services.forward.spool.face import SpooledFace
from services.forward.spool.rows import TOO_LARGE, UNANSWERED
from services.forward.spool.writer import SpoolWriter
from services.forward.undeliverable import TRY_AGAIN_EVERY_S, Undeliverable

if TYPE_CHECKING:
    from services.common.runtime.spans import Span

DELETE_DELAY_S = 0.2
FINISH_POLL_S = 0.02
WATCH_EVERY_S = 1.0
NO_RECEIPT_S = 20.0
"""If nothing is receipted for so long, no store may be listening at this broker: another one is tried."""

log = structlog.get_logger()


class SendSpans:
    """Spans of faces in flight, from the first send over a connection to the receipt.

    Each begins a trace, linked with the one that ended in the spool: days may lie between the two.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Span] = {}

    def begin(self, face: SpooledFace) -> tuple[tuple[str, str], ...]:
        """Return the user properties that a face is published with, now or again."""
        if not tracing.is_on():
            return face.message.attributes
        span = self._under_way.get(face.id)
        if span is None:
            span = tracing.follow("forward send", tracing.in_message(face.message), id=face.id)
            self._under_way[face.id] = span
        return tracing.with_place(face.message, span)

    def end(self, face_id: str, problem: str | None = None) -> None:
        """End a face's span: it is receipted, or will not be for this reason."""
        if (span := self._under_way.pop(face_id, None)) is not None:
            span.end(problem)

    def cut_short(self) -> None:
        """End all spans: the connection is lost, and all faces are sent again."""
        for span in self._under_way.values():
            span.end("link_lost")
        self._under_way.clear()


class Sender:
    """Sends faces until the store has receipted them, and then has them deleted from the spool.

    The writer tells it what the spool holds (see `BacklogListener`).

    Args:
        settings: those of this process.
        writer: reads the backlog, and deletes and quarantines faces.
        delivered: is told which faces the store has receipted.
        last_sequence: the place of the newest face that is in the spool already; 0 for none.
        erasures: obeys orders to erase; None if this device takes none.

    Attributes:
        link: the connection to the cloud's broker; to be entered before `run` and `receive_receipts`.
        relay: sends the cameras' states to the cloud.
    """

    def __init__(
        self,
        settings: ForwardSettings,
        writer: SpoolWriter,
        delivered: Delivered,
        last_sequence: int,
        erasures: ErasureOrders | None = None,
    ) -> None:
        self._writer = writer
        self._delivered = delivered
        self._erasures = erasures
        self._window = CongestionWindow()
        self._outbox = Outbox(self._window, settings.resend_first_s, last_sequence)
        self._undeliverable = Undeliverable(writer, self._outbox.withdraw)
        self._retention = settings.retention
        self._spacing = MessageSpacing()
        self._spans = SendSpans()
        self._silent_since_s: float | None = None
        self._limit = TokenBucket(settings.uplink_max_bytes_s)
        self._wake = asyncio.Event()
        self._drops = Drops(metrics.DROPPED, "forward.message_dropped")
        # Deletes are not urgent: gathered, they cost one commit in a while instead of one a face.
        self._stored: Gatherer[str] = Gatherer(self._delete, most=MAX_IDS, delay_s=DELETE_DELAY_S)
        self._is_finishing = False
        self._status = OwnStatus(settings.device, settings.status_every_s)
        self.link = Link(
            "cloud",
            Broker.cloud(settings),
            identity=f"forward-{settings.device}",
            subscriptions=[
                device_topic(settings.device, "stored"),
                *([erasures.subscription] if erasures is not None else ()),
            ],
            receive_maximum=256,
            will=lambda: self._status.will(datetime.now(UTC)),
            on_up=self._link_up,
            on_down=self._link_down,
            drain=self._finish,
        )
        self.relay = StatusRelay(self.link.publish, self._status.topic, self._status.mark)

    def offer(self, face: SpooledFace) -> None:
        """Take a new face, whose way into the spool has begun."""
        self._outbox.offer(face)
        self._wake.set()

    def backlog_read(self, read: BacklogRead, part: BacklogPart) -> None:
        """Take a part of the backlog, without faces that the store has and the spool has not deleted yet."""
        now_s = time.monotonic()
        stored = {face.id for face in part.faces if self._delivered.has(face.id, now_s)}
        for face_id in stored:
            self._stored.add(face_id)
        faces = [face for face in part.faces if face.id not in stored]
        self._outbox.backlog(read, dataclasses.replace(part, faces=faces))
        self._wake.set()

    async def try_again(self) -> None:
        """Try again every few minutes what could not be delivered before, until cancelled."""
        while True:
            await asyncio.sleep(TRY_AGAIN_EVERY_S)
            if self.link.is_up:
                self._undeliverable.try_again(self.link.max_packet_bytes)

    def put_back(self, last_sequence: int) -> None:
        """Add to the backlog what was put back in the spool, up to this place."""
        self._outbox.extend(last_sequence)
        self._wake.set()

    def tried(self, reason: str, ids: list[str]) -> None:
        """Note which faces were put back to find out whether all of their reason may be."""
        self._undeliverable.note_tried(reason, ids)

    def expired(self, ids: list[str]) -> None:
        """Do not send faces that were deleted because they are too old, or erased."""
        for face_id in ids:
            self._outbox.withdraw(face_id)
        self._wake.set()

    def why_not_ready(self) -> str | None:
        """Return None while faces may go to the cloud, else what is wrong (see `http.Check`)."""
        return self.link.why_not_ready() or self._undeliverable.why_not_ready()

    def why_waiting(self) -> str | None:
        """Return what else delays faces, as a text, or None if nothing does."""
        if self._outbox.is_store_silent:
            return "the store does not answer"
        return "FACEFERRY_UPLINK_MAX_BYTES_S" if self._limit.wait_s(time.monotonic()) > 0 else None

    async def run(self) -> None:
        """Publish what the outbox chooses, whenever something may have changed, until cancelled."""
        while True:
            self._wake.clear()
            wait_s = self._send_what_may_go()
            if (read := self._outbox.wants_backlog()) is not None:
                unsendable = self._undeliverable.unsendable(self.link.max_packet_bytes, time.monotonic())
                self._writer.put(dataclasses.replace(read, unsendable=unsendable))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def receive_receipts(self) -> None:
        """Handle receipts and orders to erase from the cloud, until cancelled."""
        async for delivery in self.link:
            try:
                self._handle(delivery.message)
            except Refused as error:
                self._drops.count(error.reason, topic=delivery.message.topic[:200], detail=error.detail)
            delivery.acknowledge()

    def erased(self, report: Report) -> None:
        """Report to the cloud that an order was carried out; an order that comes again is reported again."""
        if self._erasures is not None:
            self._report(self._erasures.message(report))

    async def watch_broker(self) -> None:
        """Leave a broker through which nothing is delivered, if there is another, and repeat the status."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if not self.link.is_up:
                self._silent_since_s = None
                continue
            self._judge_broker(now_s := time.monotonic())
            if self._status.is_due(now_s):
                with contextlib.suppress(LinkDown):
                    self.link.publish(self._status.online(now_s, is_first=False))

    def _judge_broker(self, now_s: float) -> None:
        if not self._outbox.is_store_silent:
            self._silent_since_s = None
        elif self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s > NO_RECEIPT_S:
            self.link.leave(f"nothing was receipted through it for {NO_RECEIPT_S:g} s")
        if (refusal := self._undeliverable.why_not_ready()) is not None:
            self.link.leave(refusal)
        self._undeliverable.note_room(self.link.max_packet_bytes)

    @property
    def most_image_bytes(self) -> int | None:
        """The largest image that goes to the cloud, by the last broker that was there, or None for any."""
        return self._undeliverable.most_image_bytes

    def measure(self) -> None:
        """Set the gauges."""
        metrics.IN_FLIGHT_BYTES.set(self._outbox.in_flight_bytes)
        metrics.WINDOW_BYTES.set(self._window.bytes)
        metrics.STORE_SILENT.set(self._outbox.is_store_silent)

    def _send_what_may_go(self) -> float | None:
        """Publish until all must wait; return for how many seconds at most, None for until woken."""
        while not self._is_finishing:
            now_s = time.monotonic()
            if (wait_s := max(self._limit.wait_s(now_s), self._spacing.wait_s(now_s))) > 0:
                return wait_s
            to_send = self._outbox.next(now_s)
            if to_send is None:
                due_s = self._outbox.next_due_s()
                return None if due_s == float("inf") else max(0.0, due_s - now_s)
            self._publish(to_send)
        return None

    def _publish(self, to_send: FaceToSend) -> None:
        face = to_send.face
        why_not = UNANSWERED if to_send.is_hopeless else None
        why_not = why_not or self._undeliverable.why_not_sent(face.message.topic, face.id, time.monotonic())
        if why_not is not None:
            self._undeliverable.set_aside(face.id, why_not)
            return
        attributes = self._spans.begin(face)
        message = dataclasses.replace(face.message, expiry_s=to_send.expiry_s, attributes=attributes)
        try:
            self.link.publish(message, lambda refusal: self._broker_answered(face, refusal))
        except LinkDown:
            return  # the link calls `_link_down`, and all that is in flight is sent again
        except PacketTooLarge as error:
            self._undeliverable.set_aside(face.id, TOO_LARGE, str(error))
            return
        self._limit.spend(face.size_bytes)
        self._spacing.sent(time.monotonic())
        metrics.FACES_SENT.inc()
        if to_send.is_again:
            metrics.FACES_RESENT.inc()

    def _broker_answered(self, face: SpooledFace, refusal: str | None) -> None:
        is_unheard = refusal == NO_SUBSCRIBERS
        if self._undeliverable.broker_answered(face, None if is_unheard else refusal):
            self._outbox.broker_has(face.id, time.monotonic(), is_unheard=is_unheard)
        self._wake.set()

    def _handle(self, message: Message) -> None:
        if self._erasures is not None and self._erasures.is_order(message.topic):
            if (report := self._erasures.hear(message)) is not None:
                self._report(report)
            return
        if message.retain:
            raise Refused("retained", "a receipt is for those who wait for it")
        self._settle(decode_receipt(message))

    def _report(self, message: Message) -> None:
        with contextlib.suppress(LinkDown):
            self.link.publish(message)

    def _settle(self, receipt: Receipt) -> None:
        now_s = time.monotonic()
        for face_id in receipt.ids:
            self._spans.end(face_id)
            self._outbox.settle(face_id, now_s)
            self._delivered.add(face_id, now_s)
            self._stored.add(face_id)
            self._undeliverable.stored(face_id)
        metrics.FACES_STORED.inc(len(receipt.ids))
        for face_id, reason in receipt.refused.items():
            log.error("forward.face_refused", id=face_id, reason=reason)
            self._refused(face_id, reason)
        self._wake.set()

    def _refused(self, face_id: str, reason: str) -> None:
        metrics.FACES_REFUSED.labels(reason).inc()
        self._spans.end(face_id, reason)
        self._outbox.settle(face_id, time.monotonic())
        # It is deleted if it is too old by this clock, too; if the clocks differ it is kept.
        is_old = reason == EXPIRED and is_expired(face_id, self._retention, datetime.now(UTC))
        # What was erased must not be kept in quarantine.
        is_gone = is_old or reason == ERASED
        self._writer.put(Delete(face_id) if is_gone else Quarantine(face_id, reason))

    def _delete(self, ids: list[str]) -> None:
        for face_id in ids:
            self._writer.put(Delete(face_id))

    async def _finish(self) -> None:
        """Send nothing more over this connection, and wait for the receipts of what is in flight."""
        self._is_finishing = True
        while self._outbox.in_flight_bytes:  # noqa: ASYNC110 - a receipt, a refusal or an end empties it
            await asyncio.sleep(FINISH_POLL_S)

    def _link_up(self) -> None:
        self._is_finishing = False
        self.link.publish(self._status.online(time.monotonic(), is_first=True))
        self.relay.start_over()
        self._outbox.link_up()
        self._undeliverable.new_broker(self.link.max_packet_bytes)
        self._wake.set()

    def _link_down(self) -> None:
        if self.link.end_code == RATE_TOO_HIGH:
            self._spacing.slower(time.monotonic())
        self._outbox.link_down()
        self._spans.cut_short()
        self._wake.set()
