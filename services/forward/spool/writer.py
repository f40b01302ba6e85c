"""The thread that owns the spool. What it is told it does in order, many things in one commit."""

import asyncio
import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import structlog

from services.forward.metrics import DROPPED
from services.forward.spool.commands import (
    Answers,
    BacklogRead,
    Batch,
    Changes,
    Delete,
    Erase,
    Expire,
    Order,
    PutBack,
    Quarantine,
    SetAside,
)
from services.forward.spool.database import SpoolFull, SpoolUnwritable
from services.forward.spool.disk import Spool
from services.forward.spool.erasure_log import OrderBook
from services.forward.spool.face import SpooledFace
from services.forward.spool.maintenance import Upkeep
from services.forward.spool.tables import SpoolState

MAX_BATCH = 256
MAX_BATCH_BYTES = 2 * 1024 * 1024
"""More would let the log outgrow the reserve, which has to take it in on a full disk."""
IDLE_S = 1.0
BETWEEN_ERRANDS_S = 0.1
"""Errands are run when nothing has been ordered for so long."""
_LET_GO_AT_ONCE = 32

log = structlog.get_logger()


class SpoolWriter:
    """Orders writes and reads of the spool and does them in a thread of its own.

    `put` never waits. What waits here is bounded by the caller, which holds at most the local link's receive
    maximum of faces without an answer.

    While the disk is full or takes no writes, new faces are turned away, for they would eat the room that
    letting go of the others needs; faces are read and sent as ever, and what cannot even be let go is tried
    again. That ends only with the reserve restored.

    Args:
        spool: owned by the writer from now on.
        quarantine_max_bytes: what refused faces may take.
        book: of the orders to erase, if there are any; the writer's to add to.
    """

    def __init__(self, spool: Spool, quarantine_max_bytes: int, book: OrderBook | None = None) -> None:
        self._spool = spool
        self._quarantine_max_bytes = quarantine_max_bytes
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._upkeep = Upkeep(spool, book, self._orders.put)
        self._errands = self._upkeep.errands
        self._loop = asyncio.get_running_loop()
        self._carried = Batch()

    @property
    def state(self) -> SpoolState:
        """What the spool held after the last commit."""
        return self._upkeep.state

    @property
    def problem(self) -> str | None:
        """Why no face is taken just now; None while all is well."""
        return self._upkeep.problem

    def put(self, order: Order) -> None:
        """Order a face to be inserted, let go or moved, or a part of the backlog to be read."""
        self._orders.put(order)

    def next_sequence(self) -> int:
        """Return the place of the next face."""
        return self._spool.next_sequence()

    async def run(self, answers: Answers) -> None:
        """Work until cancelled, then finish what was ordered.

        Args:
            answers: where it answers.

        Raises:
            sqlite3.Error: the database fails in a way that only a restart may repair.
            SpoolTaken: the folder is another's now.
        """
        self._answers = self._upkeep.answers = _in_loop(answers, self._loop)
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
            self._upkeep.tidy_when_due()
            while True:
                orders = self._next_orders()
                batch, self._carried = self._carried, Batch()
                for order in orders:
                    batch = self._sort(order, batch)
                self._commit(batch)
                if None in orders:
                    self._upkeep.run_all_errands()
                    return
                self._upkeep.run_some_errands(is_idle=not orders)
                self._upkeep.tidy_when_due()

    def _sort(self, order: Order | None, batch: Batch) -> Batch:
        """Add an order to the batch; or commit that, and do what cannot be part of one."""
        match order:
            case SpooledFace():
                # Copies of one face too: each has a delivery that waits for its answer.
                batch.inserts.append(order)
            case Delete():
                batch.deletes[order.face_id] = None
            case Quarantine():
                batch.refused[order.face_id] = order.reason
            case SetAside():
                self._errands.add_face(order.face_id, order.reason)
            case BacklogRead() | PutBack() | Expire() | Erase():
                self._commit(batch)
                self._upkeep.do(order)
                return Batch()
        return batch

    def _next_orders(self) -> list[Order | None]:
        """Return what has been ordered, in order: a commit's worth, or None for a while."""
        orders: list[Order | None] = []
        size_bytes = 0
        with contextlib.suppress(queue.Empty):
            orders.append(self._orders.get(timeout=BETWEEN_ERRANDS_S if self._errands else IDLE_S))
            while len(orders) < MAX_BATCH and size_bytes < MAX_BATCH_BYTES:
                orders.append(self._orders.get_nowait())
                if isinstance(orders[-1], SpooledFace):
                    size_bytes += orders[-1].size_bytes
        return orders

    def _commit(self, batch: Batch) -> None:
        if not batch:
            return
        # What is stored before it was written need not be written at all.
        stored = [face for face in batch.inserts if face.id in batch.deletes]
        new = [face for face in batch.inserts if face.id not in batch.deletes]
        self._errands.cross_off([*batch.deletes, *batch.refused])
        added = self._write(batch.changes(new)) if self.problem is None else None
        if added is not None:
            stored = [*new, *stored]
            new = []
        else:
            self._let_go(batch)
        if stored:
            self._answers.written(stored, added or 0)
        if new:
            self._answers.turned_away(new)
        self._upkeep.look()

    def _write(self, changes: Changes) -> int | None:
        """Return how many new faces are on disk; note what is wrong if nothing is, and return nothing."""
        try:
            if not self._spool.is_in_place():
                self._upkeep.replace("missing")
            added = self._upkeep.repaired(lambda: self._spool.write(changes))
            if changes.refused:
                self._bound_quarantine()
        except (SpoolFull, SpoolUnwritable) as error:
            self._upkeep.note_trouble(error)
            return None
        return added

    def _bound_quarantine(self) -> None:
        gone = self._upkeep.repaired(lambda: self._spool.bound_quarantine(self._quarantine_max_bytes))
        if gone:
            DROPPED.labels("quarantine_full").inc(len(gone))
            log.error("forward.quarantine_full", gone=len(gone), ids=gone[:20])

    def _let_go(self, batch: Batch) -> None:
        """Do what lets go of faces, a little at a time; what the disk has no room for even so is carried on.

        Whatever was carried so far would be too much for one commit on a disk that has little room.
        """
        pieces = batch.pieces(_LET_GO_AT_ONCE)
        for number, piece in enumerate(pieces):
            # Once more, with the room that the first try has had made.
            if self._write(piece.changes([])) is None and self._write(piece.changes([])) is None:
                for left in pieces[number:]:
                    self._carried.take_over(left)
                return


def _in_loop(answers: Answers, loop: asyncio.AbstractEventLoop) -> Answers:
    """Return the same answers, to be called from another thread than the loop's."""

    def later(answer: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone at the very end
                loop.call_soon_threadsafe(answer, *arguments)

        return call

    return Answers(**{each.name: later(getattr(answers, each.name)) for each in fields(answers)})
