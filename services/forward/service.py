import asyncio
import contextlib
import dataclasses
import time
from datetime import UTC, datetime

import structlog

from services.common import health, lock
from services.common.batches import Batch
from services.common.drops import Drops
from services.common.errors import Refused
from services.common.faces import encode_face
from services.common.message import Message
from services.common.mqtt import Broker, Delivery, Link, LinkDown, PacketTooLarge
from services.common.receipts import MAX_IDS, Receipt, decode_receipt, encode_taken
from services.common.topics import BARE_IMAGES, ROOT, device_topic, parse_camera_topic
from services.forward import metrics
from services.forward.database import SpoolFull
from services.forward.intake import admit
from services.forward.limit import TokenBucket
from services.forward.outbox import BacklogRead, Outbox, Sending
from services.forward.settings import ForwardSettings
from services.forward.spool import Spool, prepare
from services.forward.spooled import SpooledFace
from services.forward.window import Window
from services.forward.writer import Answers, Delete, Quarantine, SpoolWriter

METRICS_EVERY_S = 1.0
DELETE_DELAY_S = 0.2
DISK_POLL_S = 1.0
CAMERA_STATES = frozenset({b"online", b"stalled", b"offline"})
MAX_CAMERAS = 1_000
"""Whose states are kept for the next connection."""

log = structlog.get_logger()


async def serve(settings: ForwardSettings) -> None:
    """Take faces into custody and bring them to the cloud until cancelled."""
    prepare(settings.spool_path)
    # A standby is healthy: it has no dependency until the spool is its own.
    checks: dict[str, health.Check] = {}
    async with (
        health.serve(settings.http_host, settings.http_port, checks),
        lock.hold(settings.spool_path, "spool"),
    ):
        checks["spool"] = lambda: "the disk is full"
        spool = await open_spool(settings)
        forwarder = Forwarder(settings, spool)
        checks["local_broker"] = forwarder.local.why_not_ready
        checks["cloud_broker"] = forwarder.cloud.why_not_ready
        checks["spool"] = forwarder.why_no_room
        async with forwarder.local, forwarder.cloud, asyncio.TaskGroup() as tasks:
            tasks.create_task(forwarder.writer.run(), name="forward.spool")
            tasks.create_task(forwarder.take(), name="forward.take")
            tasks.create_task(forwarder.receive_receipts(), name="forward.receipts")
            tasks.create_task(forwarder.send(), name="forward.send")
            tasks.create_task(forwarder.measure(), name="forward.measure")


async def open_spool(settings: ForwardSettings) -> Spool:
    """Open the spool; wait where the disk has not even the room for that."""
    was_told = False
    while True:
        try:
            return Spool(settings.spool_path, settings.spool_reserve_bytes)
        except SpoolFull as error:
            if not was_told:
                log.error("spool.waits_for_room", error=str(error))  # noqa: TRY400 - foreseen
                was_told = True
        await asyncio.sleep(DISK_POLL_S)


class Forwarder:
    """Joins the two links, the spool and the outbox."""

    def __init__(self, settings: ForwardSettings, spool: Spool) -> None:
        device = settings.device
        self._settings = settings
        self._sequence = spool.last_sequence()
        answers = Answers(written=self._written, full=self._not_written, read=self._backlog_read)
        self.writer = SpoolWriter(spool, settings.quarantine_max_bytes, answers)
        self._window = Window()
        self._outbox = Outbox(self._window, settings.resend_first_s, self._sequence)
        self._limit = TokenBucket(settings.uplink_max_bytes_s)
        self._wake = asyncio.Event()
        self._unanswered: dict[int, Delivery] = {}
        self._unanswered_bytes = 0
        self._is_at_budget = False
        self._statuses: dict[str, Message] = {}
        self._drops = Drops(metrics.DROPPED, "forward.message_dropped")
        self._taken: Batch[str] = Batch(self._publish_taken, most=MAX_IDS)
        # Letting go is not urgent: together it costs a commit a while, alone one a face.
        self._stored: Batch[str] = Batch(self._delete, most=MAX_IDS, delay_s=DELETE_DELAY_S)
        self._own_status = device_topic(device, "forward/status")
        self.local = Link(
            "local",
            Broker.local(settings),
            identity=f"forward-{device}",
            subscriptions=[f"{ROOT}/{device}/+/face", f"{ROOT}/{device}/+/status", BARE_IMAGES],
            receive_maximum=256,
        )
        self.cloud = Link(
            "cloud",
            Broker.cloud(settings),
            identity=f"forward-{device}",
            subscriptions=[device_topic(device, "stored")],
            receive_maximum=256,
            will=self._status_message(b"offline"),
            on_up=self._cloud_up,
            on_down=self._cloud_down,
        )

    def why_no_room(self) -> str | None:
        """Return nothing while faces are taken (see `health.Check`)."""
        if self.writer.is_full:
            return "the disk is full"
        return "the spool is at its budget" if self._is_at_budget else None

    async def take(self) -> None:
        """Take faces from the local broker into the spool, and relay the cameras' states."""
        async for delivery in self.local:
            message = delivery.message
            try:
                if message.topic.endswith("/status"):
                    self._relay_status(message)
                    delivery.acknowledge()
                else:
                    self._take(delivery)
            except Refused as error:
                self._drops.count(error.reason, topic=message.topic[:200], detail=error.detail)
                delivery.acknowledge()

    async def receive_receipts(self) -> None:
        """Let go of what the store has said it has."""
        async for delivery in self.cloud:
            try:
                self._settle(decode_receipt(delivery.message))
            except Refused as error:
                self._drops.count(error.reason, topic=delivery.message.topic[:200], detail=error.detail)
            delivery.acknowledge()

    async def send(self) -> None:
        """Publish what the outbox gives out, whenever something may have changed."""
        while True:
            self._wake.clear()
            wait_s = self._send_what_may_go()
            if (read := self._outbox.wants_backlog()) is not None:
                self.writer.put(read)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def measure(self) -> None:
        """Keep the gauges."""
        metrics.SPOOL_MAX_BYTES.set(self._settings.spool_max_bytes)
        while True:
            state = self.writer.state
            metrics.SPOOL_FACES.set(state.faces)
            metrics.SPOOL_BYTES.set(state.bytes)
            metrics.SPOOL_OLDEST_SECONDS.set(time.time() - state.oldest_at_s if state.oldest_at_s else 0)
            metrics.SPOOL_IS_FULL.set(self.why_no_room() is not None)
            metrics.QUARANTINE_FACES.set(state.quarantined)
            metrics.IN_FLIGHT_BYTES.set(self._outbox.in_flight_bytes)
            metrics.WINDOW_BYTES.set(self._window.bytes)
            await asyncio.sleep(METRICS_EVERY_S)

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
        self.writer.put(spooled)
        self._outbox.offer(spooled)
        self._wake.set()

    def _has_room(self, size_bytes: int) -> bool:
        wanted = self.writer.state.bytes + self._unanswered_bytes + size_bytes
        return not self.writer.is_full and wanted < self._settings.spool_max_bytes

    def _note_budget(self, *, is_reached: bool) -> None:
        if is_reached != self._is_at_budget:
            event = "forward.at_budget" if is_reached else "forward.below_budget"
            log.warning(event, bytes=self.writer.state.bytes, max_bytes=self._settings.spool_max_bytes)
        self._is_at_budget = is_reached

    def _written(self, faces: list[SpooledFace]) -> None:
        for face in faces:
            self._answer(face)
            self._taken.add(face.id)
            log.info("forward.face_taken", id=face.id)
        metrics.FACES_TAKEN.inc(len(faces))

    def _not_written(self, faces: list[SpooledFace]) -> None:
        for face in faces:
            self._answer(face)
            self._drops.count("spool_full", id=face.id)

    def _answer(self, face: SpooledFace) -> None:
        if (delivery := self._unanswered.pop(face.sequence, None)) is not None:
            self._unanswered_bytes -= face.size_bytes
            delivery.acknowledge()

    def _backlog_read(self, read: BacklogRead, faces: list[SpooledFace]) -> None:
        self._outbox.backlog(read, faces)
        self._wake.set()

    def _publish_taken(self, ids: list[str]) -> None:
        # Without a link detect hears nothing, sends the faces again and is answered then.
        with contextlib.suppress(LinkDown):
            self.local.publish(encode_taken(self._settings.device, ids))

    def _delete(self, ids: list[str]) -> None:
        for face_id in ids:
            self.writer.put(Delete(face_id))

    def _settle(self, receipt: Receipt) -> None:
        now_s = time.monotonic()
        for face_id in receipt.ids:
            self._outbox.settle(face_id, now_s)
            self._stored.add(face_id)
        for face_id, reason in receipt.refused.items():
            log.error("forward.face_refused", id=face_id, reason=reason)
            metrics.FACES_REFUSED.labels(reason).inc()
            self._outbox.settle(face_id, now_s)
            self.writer.put(Quarantine(face_id, reason))
        metrics.FACES_STORED.inc(len(receipt.ids))
        self._wake.set()

    def _send_what_may_go(self) -> float | None:
        """Publish until all must wait; return for how many seconds at most, nothing for until woken."""
        while True:
            now_s = time.monotonic()
            if (wait_s := self._limit.wait_s(now_s)) > 0:
                return wait_s
            sending = self._outbox.next(now_s)
            if sending is None:
                due_s = self._outbox.next_due_s()
                return None if due_s == float("inf") else max(0.0, due_s - now_s)
            self._publish(sending)

    def _publish(self, sending: Sending) -> None:
        face = sending.face
        message = dataclasses.replace(face.message, expiry_s=sending.expiry_s)
        try:
            self.cloud.publish(message, lambda: self._broker_has(face.id))
        except LinkDown:
            return  # the link tells us itself, and all that is under way is sent again
        except PacketTooLarge as error:
            log.error("forward.face_too_large", id=face.id, error=str(error))  # noqa: TRY400 - foreseen
            metrics.FACES_REFUSED.labels("packet_too_large").inc()
            self._outbox.settle(face.id, time.monotonic())
            self.writer.put(Quarantine(face.id, "packet_too_large"))
            return
        self._limit.spend(face.size_bytes)
        metrics.FACES_SENT.inc()
        if sending.is_again:
            metrics.FACES_RESENT.inc()

    def _broker_has(self, face_id: str) -> None:
        self._outbox.broker_has(face_id, time.monotonic())
        self._wake.set()

    def _cloud_up(self) -> None:
        self.cloud.publish(self._status_message(b"online"))
        for status in self._statuses.values():
            self.cloud.publish(status)
        self._outbox.link_up()
        self._wake.set()

    def _cloud_down(self) -> None:
        self._outbox.link_down()
        self._wake.set()

    def _relay_status(self, message: Message) -> None:
        parse_camera_topic(message.topic, "status")
        if message.topic == self._own_status or message.payload not in CAMERA_STATES:
            raise Refused("bad_status", repr(message.payload[:32]))
        if message.topic not in self._statuses and len(self._statuses) >= MAX_CAMERAS:
            raise Refused("too_many_cameras", message.topic)
        status = Message(topic=message.topic, payload=message.payload, qos=1, retain=True)
        if self._statuses.get(message.topic) == status:
            return
        self._statuses[message.topic] = status
        with contextlib.suppress(LinkDown):
            self.cloud.publish(status)

    def _status_message(self, payload: bytes) -> Message:
        return Message(topic=self._own_status, payload=payload, qos=1, retain=True)
