"""Checks incoming faces and writes them to the store, several at a time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

import structlog

from services.common.errors import Refused
from services.common.runtime.concurrency import Backoff
from services.common.runtime.metrics import Waiting, waiting
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.wire.cloudevents import is_time_known
from services.store.admission import Admitted
from services.store.availability import Availability
from services.store.fair_queue import FairQueue, Queued
from services.store.metrics import (
    CAPTURE_TO_STORE_SECONDS,
    COPIES,
    FACE_DROPS,
    LAST_FACE_AT,
    PUT_SECONDS,
    PUTS,
    RETRIES,
    WAITING_BYTES,
    WAITING_FACES,
)

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0
TURN_S = 0.002
"""For how long faces are checked in one turn of the event loop."""
REFUSED_S = 0.01
"""For how long a refused face counts as being written: its check took time as a write does."""
MOST_TRIED_IN_TROUBLE = 256
"""While the store as a whole is out, this many faces are tried again and again; the others wait."""

log = structlog.get_logger()


class Incoming(Protocol):
    """A received message that may be a face, and takes its outcome; exactly one of the three at the end.

    Attributes:
        device, size_bytes: see `Queued`.
    """

    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def size_bytes(self) -> int: ...  # noqa: D102

    def check(self) -> Admitted:
        """Return the face that it holds.

        Raises:
            Refused: it can never be stored.
        """

    def stored(self, admitted: Admitted) -> None:
        """Take the outcome that the face is durable."""

    def refused(self, refusal: Refused) -> None:
        """Take the outcome that it can never be stored."""

    def ignored(self) -> None:
        """Take the outcome that nothing is done with it: a copy, or evicted. Its sender still has it."""


@dataclass(eq=False, kw_only=True)
class Job(Queued):
    """An incoming face in the queue, with the result of its check, and what it waits for between tries."""

    incoming: Incoming
    admitted: Admitted | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_RETRY_S, LAST_RETRY_S))
    pause: "asyncio.Task[None] | None" = None


def _ignore(_admitted: Admitted) -> None:
    pass


class FaceWriter:
    """Checks incoming faces and makes them durable, several at a time, devices in turn.

    A write that fails is tried again, with growing waits, until it succeeds or the face is evicted. Checks
    take turns as writes do: a large image keeps the processor busy, and its sender may intend that.

    Use it as an async context manager; leaving it waits until what it holds is durable. Cancelling gives
    that up, which is safe: no receipt was sent for it.

    Args:
        objects: the bucket or folder.
        availability: is told of each write.
        queue: where faces wait; only the writer changes it.
        concurrency: writes at a time.
        on_stored: is called with each face that is stored and was not before.
        check_erased: is called before each try. Raises Refused for a face that was erased meanwhile, and
            StoreUnavailable, which has the face wait, while it is not known what was.
    """

    def __init__(
        self,
        objects: ObjectStore,
        availability: Availability,
        queue: FairQueue[Job],
        *,
        concurrency: int,
        on_stored: Callable[[Admitted], None] = _ignore,
        check_erased: Callable[[Admitted], None] = _ignore,
    ) -> None:
        self._objects = objects
        self._availability = availability
        self._queue = queue
        self._free = concurrency
        self._on_stored = on_stored
        self._check_erased = check_erased
        self._known: set[str] = set()  # the ids of those that were checked
        self._since_s: dict[Job, float] = {}  # in the order in which they came
        self._wake = asyncio.Event()
        self._is_leaving = False

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._tasks.create_task(self._serve(), name="store.serve")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_leaving = True
        self._wake.set()
        await self._tasks.__aexit__(kind, error, trace)

    def take(self, incoming: Incoming) -> None:
        """Queue an incoming face.

        When the queue is full, the newest faces of the device with the largest share are evicted: counted,
        logged, and ignored without an answer to the device.
        """
        job = Job(device=incoming.device, size_bytes=incoming.size_bytes, incoming=incoming)
        self._since_s[job] = perf_counter()
        for lost in self._queue.add(job):
            self._evict(lost, for_device=incoming.device)
        self._show_waiting()
        self._wake.set()

    def waiting_summary(self) -> Waiting:
        """Return how many faces wait, for how long the oldest has, and why; see `metrics.waiting`."""
        since_s = next(iter(self._since_s.values()), None)
        oldest_s = None if since_s is None else perf_counter() - since_s
        return waiting(len(self._queue), oldest_s, self._availability.why_not_ready())

    async def _serve(self) -> None:
        """Start what can be started, whenever something may have changed."""
        while not (self._is_leaving and not len(self._queue)):
            if self._start_some():
                # The loop has to read what comes in meanwhile, which may be another device's.
                await asyncio.sleep(0)
            else:
                self._wake.clear()
                await self._wake.wait()

    def _start_some(self) -> bool:
        """Start faces for a moment; say whether there may be more to start."""
        until_s = perf_counter() + TURN_S
        while self._free and (job := self._next()) is not None:
            self._start(job)
            if perf_counter() > until_s:
                return True
        return False

    def _next(self) -> Job | None:
        if (job := self._queue.next_retry()) is not None:
            return job
        if self._availability.is_in_trouble and self._queue.tried >= MOST_TRIED_IN_TROUBLE:
            return None
        return self._queue.next_new()

    def _start(self, job: Job) -> None:
        if job.admitted is None:
            try:
                job.admitted = job.incoming.check()
            except Refused as refusal:
                asyncio.get_running_loop().call_later(REFUSED_S, self._finish_refused, job)
                job.incoming.refused(refusal)
                return
            if job.admitted.face.id in self._known:
                COPIES.inc()
                self._done(job)
                job.incoming.ignored()
                return
            self._known.add(job.admitted.face.id)
        self._free -= 1
        self._tasks.create_task(self._store(job, job.admitted))

    async def _store(self, job: Job, admitted: Admitted) -> None:
        try:
            self._check_erased(admitted)
            is_new = await self._put(admitted)
        except Refused as refusal:
            self._known.discard(admitted.face.id)
            self._availability.write_given_up(admitted.face.id)
            self._done(job)
            job.incoming.refused(refusal)
        except StoreUnavailable as error:
            RETRIES.labels(error.reason).inc()
            self._availability.write_failed(admitted.face.id, len(admitted.item.body), error)
            self._queue.failed(job)
            # The wait takes no slot: another face may be written meanwhile.
            job.pause = self._tasks.create_task(self._try_again_later(job))
        else:
            self._known.discard(admitted.face.id)
            self._done(job)
            _report(admitted, is_new=is_new)
            if is_new:
                self._on_stored(admitted)
            job.incoming.stored(admitted)
        finally:
            self._free += 1
            self._wake.set()

    async def _put(self, admitted: Admitted) -> bool:
        started = perf_counter()
        self._availability.write_started(admitted.face.id)
        is_new = await self._objects.put(admitted.item)
        PUT_SECONDS.observe(perf_counter() - started)
        self._availability.write_worked(admitted.face.id, is_new=is_new)
        return is_new

    async def _try_again_later(self, job: Job) -> None:
        await self._availability.pause(job.backoff.next_s())
        self._queue.retry(job)
        self._wake.set()

    def _evict(self, job: Job, for_device: str) -> None:
        FACE_DROPS.count(
            "over_share", device=job.device, for_device=for_device, waiting_bytes=self._queue.bytes
        )
        del self._since_s[job]
        if job.admitted is not None:
            self._known.discard(job.admitted.face.id)
            self._availability.write_given_up(job.admitted.face.id)
        if job.pause is not None:
            job.pause.cancel()
        job.incoming.ignored()

    def _finish_refused(self, job: Job) -> None:
        self._done(job)
        self._wake.set()

    def _done(self, job: Job) -> None:
        self._queue.done(job)
        del self._since_s[job]
        self._show_waiting()

    def _show_waiting(self) -> None:
        WAITING_FACES.set(len(self._queue))
        WAITING_BYTES.set(self._queue.bytes)


def _report(admitted: Admitted, *, is_new: bool) -> None:
    face = admitted.face
    PUTS.labels("created" if is_new else "existing").inc()
    log.debug(
        "store.face_stored",
        id=face.id,
        device=face.source.device,
        camera=face.source.camera,
        key=admitted.item.key,
        bytes=len(face.image),
        is_new=is_new,
    )
    now = datetime.now(UTC)
    LAST_FACE_AT.set(now.timestamp())
    age_s = (now - face.time).total_seconds()
    if is_new and is_time_known(face.extensions) and age_s >= 0 and not admitted.is_bare:
        CAPTURE_TO_STORE_SECONDS.observe(age_s)
