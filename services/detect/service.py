"""The parts of the detect service, wired together: frames in, faces and answers out."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import cv2
import structlog

from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown, PacketTooLarge
from services.common.runtime import http, tracing
from services.common.runtime.metrics import DEVICE_INFO, Drops
from services.common.wire.faces import Face, encode_face
from services.common.wire.frames import Done, Frame, decode_frame, encode_done
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.refusals import refuse_frame
from services.common.wire.seen import SeenAnswer
from services.common.wire.topics import device_topic
from services.detect import metrics, threads
from services.detect.custody import Custody, DueFace
from services.detect.cutting import about_bytes
from services.detect.decode_cost import is_cheap
from services.detect.decoder import Decoder, DecoderUnavailable
from services.detect.detectors import Detector, opened
from services.detect.freshness import Freshness
from services.detect.look_interval import LastFaceTimes, LookSummary, next_look_s
from services.detect.mailbox import Dropped
from services.detect.motion_gate import MotionGate
from services.detect.pipeline import Look, Pipeline
from services.detect.questions import Questions
from services.detect.settings import DetectSettings
from services.detect.work_queue import CheapWork, CostlyWork, WorkQueue

TICK_S = 0.1
RESEND_BYTES_PER_TICK = 4 * 1024 * 1024
"""40 MB/s: what is held after an outage comes back without flooding the broker's queues."""
PACKET_MARGIN_BYTES = 4 * 1024
"""The most that a face's message has besides its image."""
DRAIN_S = 2.0
"""For how long receipts are awaited after a signal to stop."""

log = structlog.get_logger()
_frames_dropped = Drops(metrics.FRAMES_DROPPED, "detect.frame_dropped")
_refused = Drops(metrics.MESSAGES_REFUSED, "detect.message_refused")
_faces_refused = Drops(metrics.FACES_REFUSED, "detect.face_refused")


async def serve(settings: DetectSettings) -> None:
    """Turn frames into faces until cancelled.

    Raises:
        SetupError: a detector or provider that the settings name cannot be had.
    """
    DEVICE_INFO.labels(settings.device).set(1)
    # One thread works on one frame; OpenCV's own threads would only get in each other's way.
    cv2.setNumThreads(1)
    async with opened(settings) as detector:
        service = Service(settings, detector)
        checks = {"broker": service.link.why_not_ready, "custody": service.why_not_ready}
        async with http.serve(settings.http_host, settings.http_port, checks), service.link:
            try:
                await service.run()
            finally:
                await service.drain()


class Service:
    """The parts of detect, wired together.

    Everything here runs in the event loop, except the methods of `Pipeline` and `MotionGate`, which run in
    the pool's threads. Frames that are costly to decode have a queue of their own, and another process that
    decodes them, so that cheap ones never wait for them.

    Args:
        settings: of this service.
        detector: finds the faces; owned by the caller, and used from several threads.

    Attributes:
        link: the connection to the local broker, which the caller opens and closes.
    """

    def __init__(self, settings: DetectSettings, detector: Detector) -> None:
        self._settings = settings
        self._pipeline = Pipeline(detector, settings)
        skips = settings.skip_still and settings.keep == "visits"
        # A GPU gains nothing from parts: it wants the same size again and again, many at once.
        by_parts = settings.look_at_parts and detector.kind != "haar" and detector.provider == "cpu"
        gate = MotionGate(self._pipeline, settings.max_cameras, by_parts=by_parts) if skips else None
        self._faces_found = metrics.FACES.labels(detector.kind)
        self._freshness = Freshness(settings.frame_max_age_s, settings.max_cameras)
        self._last_face_times = LastFaceTimes(settings.max_cameras)
        self._custody = Custody(settings.max_custody_bytes, settings.max_custody_faces)
        count = settings.threads or threads.default_count(threads.usable_cores())
        self._pool = ThreadPoolExecutor(count, "detect.frame")
        self._decoder = Decoder(settings.decode_timeout_s)
        cheap = CheapWork(self._pool, self._pipeline, gate, self._max_image_bytes)
        costly = CostlyWork(self._pool, self._pipeline, self._decoder, self._max_image_bytes)
        self._cheap = WorkQueue(settings.max_cameras, count, cheap)
        self._costly = WorkQueue(settings.max_cameras, 1, costly)
        self._cloud_max_bytes: int | None = None
        self._questions: Questions | None = None
        if settings.keep == "visits":
            self._questions = Questions(settings.device, self._publish_question)
        self.link = Link(
            "local",
            Broker.local(settings),
            identity=f"detect-{settings.device}",
            subscriptions=(
                f"$share/detect/faceferry/{settings.device}/+/frame",
                device_topic(settings.device, "taken"),
                *((self._questions.topic,) if self._questions is not None else ()),
            ),
            on_up=self._start_over,
        )
        log.info("detect.threads", threads=count)

    def why_not_ready(self) -> str | None:
        """Return None while faces are receipted, else what is wrong (see `http.Check`)."""
        if self._custody.is_full:
            return f"full: forward has not receipted {len(self._custody)} faces"
        return None

    async def run(self) -> None:
        """Work until cancelled."""
        async with self._decoder.running(), asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._receive(), name="detect.receive")
            self._tasks.create_task(self._resend(), name="detect.resend")
            self._tasks.create_task(metrics.log_summaries(self._custody, self.link), name="detect.summary")

    async def drain(self) -> None:
        """Wait a moment for the receipts of faces in custody; the rest are lost with this process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while len(self._custody) and self.link.is_up:
                    delivery = await anext(self.link)
                    delivery.acknowledge()
                    self._take_receipt(delivery.message)
        if len(self._custody):
            log.warning("detect.faces_abandoned", faces=len(self._custody))
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _receive(self) -> None:
        async for delivery in self.link:
            delivery.acknowledge()
            if delivery.message.topic.endswith("/frame"):
                self._take_frame(delivery.message)
            elif delivery.message.topic.endswith("/wanted"):
                self._take_answer(delivery.message)
            else:
                self._take_receipt(delivery.message)
            self._dispatch()

    def _take_frame(self, message: Message) -> None:
        try:
            frame = decode_frame(message)
        except Refused as refusal:
            _refused.count(refusal.reason, topic=message.topic, detail=refusal.detail)
            self._publish_answer(refuse_frame(message, refusal.reason))
            return
        queue = self._cheap if is_cheap(frame.jpeg) else self._costly
        if frame.paced and (queue.is_working_on(frame) or self._custody.is_waiting(frame)):
            # Capture asks again for what it will be told; the answer needs no second detection.
            self._drop([Dropped(frame, "repeated")])
        else:
            self._drop(queue.mailbox.put(frame))

    def _take_receipt(self, message: Message) -> None:
        if not message.topic.endswith("/taken"):
            return
        try:
            receipt = decode_receipt(message)
        except Refused as refusal:
            _refused.count(refusal.reason, topic=message.topic, detail=refusal.detail)
            return
        self._cloud_max_bytes = receipt.most_bytes
        for face_id in filter(self._custody.__contains__, receipt.refused):
            _faces_refused.count(receipt.refused[face_id], id=face_id)
        for done in self._custody.release([*receipt.ids, *receipt.refused]):
            self._answer(done)

    def _take_answer(self, message: Message) -> None:
        try:
            if self._questions is not None:
                self._questions.take(message)
        except Refused as refusal:
            _refused.count(refusal.reason, topic=message.topic, detail=refusal.detail)

    def _dispatch(self) -> None:
        """Start work on waiting frames, as far as workers are idle and custody has room."""
        for queue in (self._cheap, self._costly):
            if self._custody.is_full:
                self._drop(Dropped(frame, "custody_full") for frame in queue.mailbox.take_live())
            while len(queue.mailbox) and self._may_look and (frame := queue.take()) is not None:
                wall, now_s = datetime.now(UTC), time.monotonic()
                if self._freshness.is_stale(frame, wall, now_s):
                    self._drop([Dropped(frame, "stale")])
                    continue
                # From here on by the steady clock: the wall clock may be set while the frame is worked on.
                taken_s = now_s - self._freshness.age_s(frame, wall)
                queue.begin(frame)
                self._tasks.create_task(self._work(queue, frame, taken_s), name="detect.work")

    @property
    def _may_look(self) -> bool:
        """Whether there is room for the faces and the question of another frame."""
        asks_too_much = self._questions is not None and self._questions.is_full
        return self._custody.has_room and not asks_too_much

    async def _work(self, queue: WorkQueue, frame: Frame, taken_s: float) -> None:
        span = tracing.go_on("detect", frame.traceparent, source=str(frame.source), frame=frame.sequence)
        problem = None
        try:
            look = await queue.look(frame)
            answer = await self._ask(frame, look)
            faces = [] if answer.wanted == [] else await queue.cut(frame, look, answer.wanted)
        except Refused as refusal:
            problem = refusal.reason
            self._tell_no_faces(frame)
            self._drop([Dropped(frame, problem)], detail=refusal.detail)
        except DecoderUnavailable as error:
            problem = "decoder_unavailable"
            self._drop([Dropped(frame, problem)], detail=str(error))
        else:
            span.note(seen=len(look.found), faces=len(faces))
            faces = [face.traced(span.traceparent) for face in faces]
            self._deliver(frame, look, faces, taken_s, self._next_s(frame, look, answer))
        span.end(problem)
        self._custody.expect_no_more(frame)
        queue.end(frame)
        self._dispatch()

    async def _ask(self, frame: Frame, look: Look) -> SeenAnswer:
        """Return forward's answer about the faces; where it gives none, the answer that all are wanted."""
        if not look.view.faces:
            self._tell_no_faces(frame)
        elif self._questions is not None:
            style = self._pipeline.style(self._max_image_bytes())
            self._custody.expect(frame, [about_bytes(box, style) for box in look.found.boxes])
            self._dispatch()  # other frames are worked on meanwhile; without a question, cutting comes first
            if (said := await self._questions.ask(frame, look.view)) is not None:
                return said
        return SeenAnswer(None if len(look.found) else [])

    def _next_s(self, frame: Frame, look: Look, answer: SeenAnswer) -> float | None:
        """Return for how many seconds no further frame of a live camera is needed; None for a recording."""
        if frame.paced:
            return None
        now_s = time.monotonic()
        faces = len(look.found)
        unseen_s = self._last_face_times.unseen_s(frame.source, now_s)
        summary = LookSummary(faces, unseen_s, answer.haste, look.is_still, look.is_in_doubt)
        self._last_face_times.note(frame.source, faces, now_s)
        return next_look_s(summary, self._settings.usual_looks_per_s)

    def _tell_no_faces(self, frame: Frame) -> None:
        """Tell forward that a recording's frame shows no face, so that later frames do not wait for it."""
        if frame.paced and self._questions is not None:
            self._questions.tell(frame)

    def _max_image_bytes(self) -> int:
        """Return the largest image that both brokers take, the cloud's as far as it is known."""
        # A face that the broker does not take would stay in custody, until that is full and work stops.
        most_bytes = self.link.max_packet_bytes - PACKET_MARGIN_BYTES
        # One that the cloud's broker does not take would end up in forward's quarantine.
        return most_bytes if self._cloud_max_bytes is None else min(most_bytes, self._cloud_max_bytes)

    def _deliver(
        self, frame: Frame, look: Look, faces: list[Face], taken_s: float, next_s: float | None
    ) -> None:
        now_s = time.monotonic()
        self._publish(self._custody.hold(frame, faces, now_s))
        metrics.FRAMES.inc()
        self._faces_found.inc(len(faces))
        for face in faces:
            log.debug("detect.face_found", id=face.id)
        if not self._custody.is_waiting(frame):
            ids = tuple(face.id for face in faces)
            seen = None if frame.paced else look.outlines
            self._answer(Done(frame.source, frame.sequence, ids, next_s=next_s, outlines=seen))
        if not frame.paced:
            metrics.FRAME_AGE_SECONDS.observe(max(0.0, now_s - taken_s))

    async def _resend(self) -> None:
        """Publish again the faces that are due, and update the gauges."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            if self.link.is_up:
                due = self._custody.due(now_s, RESEND_BYTES_PER_TICK)
                metrics.FACES_RESENT.inc(len(due))
                self._publish(due)
            metrics.CUSTODY_FACES.set(len(self._custody))
            metrics.CUSTODY_BYTES.set(self._custody.size_bytes)
            metrics.CUSTODY_OLDEST_SECONDS.set(self._custody.oldest_s(now_s))
            metrics.FRAMES_WAITING.set(len(self._cheap.mailbox) + len(self._costly.mailbox))
            metrics.FRAMES_IN_WORK.set(len(self._cheap) + len(self._costly))

    def _start_over(self) -> None:
        self._custody.start_over(time.monotonic())

    def _publish(self, faces: Iterable[DueFace]) -> None:
        """Publish faces; one that cannot be sent now stays in custody and is due again later."""
        for face, expiry_s in faces:
            try:
                self.link.publish(encode_face(face, expiry_s=expiry_s))
            except LinkDown:
                return
            except PacketTooLarge as error:
                log.error(  # noqa: TRY400 - one clear line
                    "detect.face_too_large",
                    face=face.id,
                    problem=str(error),
                    advice="raise the broker's max_packet_size, or lower FACEFERRY_MAX_CROP_BYTES",
                )

    def _publish_question(self, message: Message) -> None:
        self.link.publish(message)

    def _drop(self, dropped: Iterable[Dropped], **context: object) -> None:
        for each in dropped:
            source = each.frame.source
            _frames_dropped.count(each.reason, camera=str(source), **context)
            if each.is_final:
                self._answer(Done(source, each.frame.sequence, dropped=each.reason))

    def _answer(self, done: Done) -> None:
        self._publish_answer(encode_done(done))

    def _publish_answer(self, message: Message | None) -> None:
        # Without a connection capture's window frees itself: live by its timeout, paced by asking again.
        if message is not None:
            with contextlib.suppress(LinkDown):
                self.link.publish(message)
