"""From the outbox to the cloud, and the store's receipts back."""

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
from services.common.mqtt import UNHEARD, Broker, Link, LinkDown, PacketTooLarge
from services.common.mqtt.reasons import RATE_TOO_HIGH
from services.common.retention import EXPIRED
from services.common.runtime import tracing
from services.common.runtime.metrics import Drops
from services.common.runtime.queues import Batch
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
"""A broker through which faces go for so long, and nothing is receipted, may be one where nobody listens."""

log = structlog.get_logger()


class SendSpans:
    """Traces of faces on their way to the store: one from the first send to the receipt, in each connection.

    It is a trace of its own, linked with the one that has led into the spool: between the two a face may have
    waited for days.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Span] = {}

    def begin(self, face: SpooledFace) -> tuple[tuple[str, str], ...]:
        """Return the attributes that a face goes out with, now or again."""
        if not tracing.is_on():
            return face.message.attributes
        span = self._under_way.get(face.id)
        if span is None:
            span = tracing.follow("forward send", tracing.in_message(face.message), id=face.id)
            self._under_way[face.id] = span
        return tracing.with_place(face.message, span)

    def end(self, face_id: str, problem: str | None = None) -> None:
        """Note that a face is receipted, or why it will not be."""
        if (span := self._under_way.pop(face_id, None)) is not None:
            span.end(problem)

    def cut_short(self) -> None:
        """Note that the connection is lost: all are sent again."""
        for span in self._under_way.values():
            span.end("link_lost")
        self._under_way.clear()


class Sender:
    """Sends faces until the store has receipted them, and then lets go of them.

    Args:
        settings: forward's.
        writer: reads the backlog, and deletes and quarantines faces.
        delivered: is told what the store has answered for.
        last_sequence: the newest face already in the spool.
        erasures: obeys orders to erase; nothing where nobody may order any.
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
        self._pace = MessageSpacing()
        self._spans = SendSpans()
        self._silent_since_s: float | None = None
        self._limit = TokenBucket(settings.uplink_max_bytes_s)
        self._wake = asyncio.Event()
        self._drops = Drops(metrics.DROPPED, "forward.message_dropped")
        # Letting go is not urgent: together it costs a commit a while, alone one a face.
        self._stored: Batch[str] = Batch(self._delete, most=MAX_IDS, delay_s=DELETE_DELAY_S)
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
        """Take a part of the backlog, but for what the store has and the spool has not let go of yet."""
        now_s = time.monotonic()
        stored = {face.id for face in part.faces if self._delivered.has(face.id, now_s)}
        for face_id in stored:
            self._stored.add(face_id)
        faces = [face for face in part.faces if face.id not in stored]
        self._outbox.backlog(read, dataclasses.replace(part, faces=faces))
        self._wake.set()

    async def try_again(self) -> None:
        """Try now and then what could not be delivered before, until cancelled."""
        while True:
            await asyncio.sleep(TRY_AGAIN_EVERY_S)
            if self.link.is_up:
                self._undeliverable.try_again(self.link.max_packet_bytes)

    def put_back(self, last_sequence: int) -> None:
        """Take what has come back among those that wait, up to this place."""
        self._outbox.extend(last_sequence)
        self._wake.set()

    def tried(self, reason: str, ids: list[str]) -> None:
        """Take note of faces that were put back to see whether others like them may be."""
        self._undeliverable.note_tried(reason, ids)

    def expired(self, ids: list[str]) -> None:
        """Take note of faces that are too old by now to be sent."""
        for face_id in ids:
            self._outbox.withdraw(face_id)
        self._wake.set()

    def why_not_ready(self) -> str | None:
        """Return None while faces may go to the cloud, else what is wrong (see `health.Check`)."""
        return self.link.why_not_ready() or self._undeliverable.why_not_ready()

    def why_waiting(self) -> str | None:
        """Return what else keeps faces from being stored, or None where they are on their way."""
        if self._outbox.is_store_silent:
            return "the store does not answer"
        return "FACEFERRY_UPLINK_MAX_BYTES_S" if self._limit.wait_s(time.monotonic()) > 0 else None

    async def run(self) -> None:
        """Publish what the outbox gives out, whenever something may have changed, until cancelled."""
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
        """Let go of what the store has said it has, until cancelled."""
        async for delivery in self.link:
            try:
                self._handle(delivery.message)
            except Refused as error:
                self._drops.count(error.reason, topic=delivery.message.topic[:200], detail=error.detail)
            delivery.acknowledge()

    def erased(self, report: Report) -> None:
        """Tell the cloud that an order was carried out; who does not hear it orders again, and is told."""
        if self._erasures is not None:
            self._report(self._erasures.message(report))

    async def watch_broker(self) -> None:
        """Leave a broker through which nothing is delivered, where there is another, until cancelled."""
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
        """Publish until all must wait; return for how many seconds at most, nothing for until woken."""
        while not self._is_finishing:
            now_s = time.monotonic()
            if (wait_s := max(self._limit.wait_s(now_s), self._pace.wait_s(now_s))) > 0:
                return wait_s
            to_send = self._outbox.next(now_s)
            if to_send is None:
                due_s = self._outbox.next_due_s()
                return None if due_s == float("inf") else max(0.0, due_s - now_s)
            self._publish(to_send)
        return None

    def _publish(self, to_send: FaceToSend) -> None:
        face = to_send.face
        if to_send.is_hopeless:
            self._undeliverable.set_aside(face.id, UNANSWERED)
            return
        refusal = self._undeliverable.why_not_sent(face.message.topic, face.id, time.monotonic())
        if refusal is not None:
            self._undeliverable.set_aside(face.id, refusal)
            return
        attributes = self._spans.begin(face)
        message = dataclasses.replace(face.message, expiry_s=to_send.expiry_s, attributes=attributes)
        try:
            self.link.publish(message, lambda refusal: self._broker_answered(face, refusal))
        except LinkDown:
            return  # the link tells us itself, and all that is under way is sent again
        except PacketTooLarge as error:
            self._undeliverable.set_aside(face.id, TOO_LARGE, str(error))
            return
        self._limit.spend(face.size_bytes)
        self._pace.sent(time.monotonic())
        metrics.FACES_SENT.inc()
        if to_send.is_again:
            metrics.FACES_RESENT.inc()

    def _broker_answered(self, face: SpooledFace, refusal: str | None) -> None:
        is_unheard = refusal == UNHEARD
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
        # What is too old for the store is so for us, unless one of the two clocks is wrong: then it stays.
        is_old = reason == EXPIRED and is_expired(face_id, self._retention, datetime.now(UTC))
        # What was erased is not kept for a look.
        if is_old or reason == ERASED:
            self._writer.put(Delete(face_id))
        else:
            self._writer.put(Quarantine(face_id, reason))

    def _delete(self, ids: list[str]) -> None:
        for face_id in ids:
            self._writer.put(Delete(face_id))

    async def _finish(self) -> None:
        """Send nothing more into this connection, and wait for the receipts of what is under way."""
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
            self._pace.slower(time.monotonic())
        self._outbox.link_down()
        self._spans.cut_short()
        self._wake.set()
