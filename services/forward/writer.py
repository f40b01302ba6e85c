"""The thread that owns the spool. What it is told it does in order, many things in one commit."""

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from services.forward.database import SpoolDamaged, SpoolFull
from services.forward.metrics import DROPPED, SPOOL_DAMAGED
from services.forward.outbox import BacklogRead
from services.forward.spool import Spool, SpoolState
from services.forward.spooled import SpooledFace

MAX_BATCH = 256
MAX_BATCH_BYTES = 2 * 1024 * 1024
"""More would let the log outgrow the reserve, which has to take it in on a full disk."""
IDLE_S = 1.0
TIDY_EVERY_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delete:
    """The store has this face."""

    face_id: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The store will never take this face."""

    face_id: str
    reason: str


Order = SpooledFace | Delete | Quarantine | BacklogRead


@dataclass(slots=True)
class _Batch:
    inserts: list[SpooledFace] = field(default_factory=list)
    deletes: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inserts) + len(self.deletes) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the writer answers; called in the event loop, in the order of what was asked.

    Attributes:
        written: these faces are on disk, or already in the store.
        full: these are not, for want of room.
        read: a part of the backlog.
    """

    written: Callable[[list[SpooledFace]], None]
    full: Callable[[list[SpooledFace]], None]
    read: Callable[[BacklogRead, list[SpooledFace]], None]


class SpoolWriter:
    """Orders writes and reads of the spool and does them in a thread of its own.

    `put` never waits. What waits here is bounded by the caller, which holds at most the local link's receive
    maximum of faces without an answer.

    Args:
        spool: owned by the writer from now on.
        quarantine_max_bytes: what refused faces may take.
    """

    def __init__(self, spool: Spool, quarantine_max_bytes: int) -> None:
        self.state: SpoolState = spool.state()
        self.is_full = False
        self._spool = spool
        self._quarantine_max_bytes = quarantine_max_bytes
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._carried = _Batch()
        self._tidied_s = time.monotonic()

    def put(self, order: Order) -> None:
        """Order a face to be inserted, deleted or moved aside, or a part of the backlog to be read."""
        self._orders.put(order)

    async def run(self, answers: Answers) -> None:
        """Work until cancelled, then finish what was ordered.

        Args:
            answers: where it answers.

        Raises:
            sqlite3.Error: the disk fails in a way that only a restart may mend.
        """
        self._answers = answers
        with ThreadPoolExecutor(1, thread_name_prefix="spool") as pool:
            work = self._loop.run_in_executor(pool, self._work)
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self._orders.put(None)
                await work
                raise

    def _work(self) -> None:
        with contextlib.closing(self._spool):
            while True:
                orders = self._next_orders()
                batch, self._carried = self._carried, _Batch()
                for order in orders:
                    match order:
                        case SpooledFace():
                            # Copies of one face too: each has a delivery that waits for its answer.
                            batch.inserts.append(order)
                        case Delete():
                            batch.deletes[order.face_id] = None
                        case Quarantine():
                            batch.refused[order.face_id] = order.reason
                        case BacklogRead():
                            self._commit(batch)
                            batch = _Batch()
                            self._answer(self._answers.read, order, self._read(order))
                self._commit(batch)
                if None in orders:
                    return
                self._tidy_when_due()

    def _next_orders(self) -> list[Order | None]:
        """Return what has been ordered, in order: a commit's worth, or nothing for a while."""
        orders: list[Order | None] = []
        size_bytes = 0
        with contextlib.suppress(queue.Empty):
            orders.append(self._orders.get(timeout=IDLE_S))
            while len(orders) < MAX_BATCH and size_bytes < MAX_BATCH_BYTES:
                orders.append(self._orders.get_nowait())
                if isinstance(orders[-1], SpooledFace):
                    size_bytes += orders[-1].size_bytes
        return orders

    def _commit(self, batch: _Batch) -> None:
        if not batch:
            return
        # What is stored before it was written need not be written at all.
        inserts = [face for face in batch.inserts if face.id not in batch.deletes]
        try:
            self._write(inserts, batch)
        except SpoolFull:
            self._make_room(inserts, batch)
            inserts = []
        else:
            self.is_full = False
        written = [face for face in batch.inserts if face.id in batch.deletes]
        if inserts or written:
            self._answer(self._answers.written, [*inserts, *written])
        self._look()

    def _write(self, inserts: list[SpooledFace], batch: _Batch) -> None:
        if not self._spool.is_in_place():
            self._replace()
        try:
            self._spool.write(inserts, list(batch.deletes), batch.refused)
        except SpoolDamaged:
            self._replace()
            self._spool.write(inserts, list(batch.deletes), batch.refused)
        if batch.refused and (gone := self._spool.bound_quarantine(self._quarantine_max_bytes)):
            DROPPED.labels("quarantine_full").inc(gone)
            log.warning("forward.quarantine_full", gone=gone)

    def _make_room(self, inserts: list[SpooledFace], batch: _Batch) -> None:
        """Let go what may go, with the reserve's room; what cannot even be let go is tried again."""
        if not self.is_full:
            log.error("spool.disk_full")
        self.is_full = True
        self._spool.make_room()
        try:
            self._write([], batch)
        except SpoolFull:
            self._carried = _Batch(deletes=batch.deletes, refused=batch.refused)
        if inserts:
            self._answer(self._answers.full, inserts)

    def _read(self, read: BacklogRead) -> list[SpooledFace]:
        try:
            return self._spool.read(read)
        except SpoolDamaged:
            self._replace()
            return self._spool.read(read)

    def _look(self) -> None:
        try:
            self.state = self._spool.state()
        except SpoolDamaged:
            self._replace()
            self.state = self._spool.state()

    def _replace(self) -> None:
        SPOOL_DAMAGED.inc()
        self._spool.replace()

    def _tidy_when_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._tidied_s < TIDY_EVERY_S:
            return
        self._tidied_s = now_s
        try:
            self._spool.tidy()
        except SpoolDamaged:
            self._replace()
        self._look()
        if self.is_full and self._spool.has_reserve:
            log.info("spool.disk_has_room")
            self.is_full = False

    def _answer(self, answer: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone at the very end
            self._loop.call_soon_threadsafe(answer, *arguments)
