"""The thread that owns the spool. What it is told it does in order, many things in one commit."""

import asyncio
import contextlib
import math
import queue
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from services.common.erasure.reports import Report
from services.common.erasure.selection import ERASED
from services.common.retention import EXPIRED
from services.common.runtime.metrics import Drops
from services.forward.metrics import DROPPED, SET_ASIDE, SPOOL_DAMAGED
from services.forward.spool.backlog import BacklogPart, BacklogRead
from services.forward.spool.database import SpoolDamaged, SpoolFull, SpoolUnwritable
from services.forward.spool.face import SpooledFace
from services.forward.spool.folder import DISK_FULL
from services.forward.spool.orderbook import OrderBook
from services.forward.spool.orders import (
    Batch,
    Changes,
    Delete,
    Erase,
    Errands,
    Expire,
    Order,
    PutBack,
    Quarantine,
    SetAside,
)
from services.forward.spool.spool import Spool
from services.forward.spool.tables import SpoolState

MAX_BATCH = 256
MAX_BATCH_BYTES = 2 * 1024 * 1024
"""More would let the log outgrow the reserve, which has to take it in on a full disk."""
IDLE_S = 1.0
TIDY_EVERY_S = 5.0
TROUBLED_TIDY_EVERY_S = 1.0
"""How often a disk in trouble is looked at: it is noticed soon when the trouble is over."""
_PUT_BACK_AT_ONCE = 32
_LET_GO_AT_ONCE = 32
BETWEEN_ERRANDS_S = 0.1
"""Errands are run when nothing has been ordered for so long, and"""
ERRANDS_EVERY_S = 1.0
"""so often, a few, however much is ordered."""
_ERRANDS_AT_ONCE = 64
_ERRANDS_BETWEEN = 8
"""How many are run then: each takes half as long as a face."""

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers:
    """Where the writer answers; called in the event loop, in the order of what was asked.

    Attributes:
        written: these faces are on disk, or already in the store, and so many of them were not held before.
        turned_away: these are not, for the disk takes none.
        read: a part of the backlog.
        put_back: faces have come back among those that wait, up to this place.
        expired: these faces, by their ids, have waited for too long and are gone.
        erased: an order was carried out.
        tried: some of them, with these ids, to see whether all that are apart for this reason may.
    """

    written: Callable[[list[SpooledFace], int], None]
    turned_away: Callable[[list[SpooledFace]], None]
    read: Callable[[BacklogRead, BacklogPart], None]
    put_back: Callable[[int], None]
    tried: Callable[[str, list[str]], None]
    expired: Callable[[list[str]], None]
    erased: Callable[[Report], None] = lambda _: None


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

    Attributes:
        state: what the spool held after the last commit.
        problem: why no face is taken just now; nothing while all is well.
    """

    def __init__(self, spool: Spool, quarantine_max_bytes: int, book: OrderBook | None = None) -> None:
        self.state: SpoolState = spool.state()
        self.problem = spool.why_no_room()
        self._spool = spool
        self._quarantine_max_bytes = quarantine_max_bytes
        self._book = book
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._carried = Batch()
        self._postponed: list[Order] = []
        self._asked: set[int] = set()
        self._errands = Errands()
        self._asides = Drops(SET_ASIDE, "forward.face_set_aside")
        self._errands_s = -math.inf
        self._tidied_s = -math.inf
        if self.problem is not None:
            log.error("spool.takes_no_faces", why=self.problem)

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
            self._tidy_when_due()
            while True:
                orders = self._next_orders()
                batch, self._carried = self._carried, Batch()
                for order in orders:
                    batch = self._sort(order, batch)
                self._commit(batch)
                if None in orders:
                    self._run_all_errands()
                    return
                if not orders:
                    self._run_errands(_ERRANDS_AT_ONCE)
                elif time.monotonic() - self._errands_s > ERRANDS_EVERY_S:
                    self._run_errands(_ERRANDS_BETWEEN)
                self._tidy_when_due()

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
                self._do_now(order)
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
            self._answer(self._answers.written, stored, added or 0)
        if new:
            self._answer(self._answers.turned_away, new)
        self._look()

    def _write(self, changes: Changes) -> int | None:
        """Return how many new faces are on disk; note what is wrong if nothing is, and return nothing."""
        try:
            if not self._spool.is_in_place():
                self._replace("missing")
            added = self._repaired(lambda: self._spool.write(changes))
            if changes.refused:
                self._bound_quarantine()
        except (SpoolFull, SpoolUnwritable) as error:
            self._note_trouble(error)
            return None
        return added

    def _bound_quarantine(self) -> None:
        gone = self._repaired(lambda: self._spool.bound_quarantine(self._quarantine_max_bytes))
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

    def _do_now(self, order: BacklogRead | PutBack | Expire | Erase) -> None:
        """Do what is not part of a batch; later, where the disk does not let it be done."""
        try:
            match order:
                case BacklogRead():
                    self._read(order)
                case PutBack():
                    self._put_back(order)
                case Expire():
                    self._expire(order)
                case Erase():
                    self._erase(order)
        except (SpoolFull, SpoolUnwritable) as error:
            self._note_trouble(error)
            self._postponed.append(order)
        self._look()

    def _read(self, order: BacklogRead) -> None:
        part = self._repaired(lambda: self._spool.read(order))
        for place, reason in self._errands.add_rows(part.bad).items():
            self._asides.count(reason, place=place)
        self._answer(self._answers.read, order, part)

    def _run_errands(self, most: int) -> None:
        """Set some of those aside that are to be; on a disk in trouble they are as safe where they are."""
        self._errands_s = time.monotonic()
        if not self._errands or self.problem is not None:
            return
        faces, bad_rows = self._errands.some(most)
        try:
            done = self._repaired(lambda: self._spool.whole.set_aside(faces, bad_rows))
        except (SpoolFull, SpoolUnwritable) as error:
            self._note_trouble(error)
        else:
            self._errands.cross_off(done)
        self._look()

    def _run_all_errands(self) -> None:
        left = len(self._errands) + 1
        while self._errands and len(self._errands) < left:
            left = len(self._errands)
            self._run_errands(_ERRANDS_AT_ONCE)

    def _put_back(self, order: PutBack) -> None:
        """Put some faces back and leave the others to another turn, so that new ones need not wait long."""
        if order.places is None:
            self._run_all_errands()
            order.places = self._repaired(lambda: self._spool.whole.find_apart(order.request))[: order.most]
            if order.places:
                log.info("forward.faces_put_back", faces=len(order.places))
        some = order.places[:_PUT_BACK_AT_ONCE]
        if some:
            ids, seen = self._repaired(lambda: self._spool.put_back(some, order.request.device))
            del order.places[:seen]
            if order.most is not None and order.request.reason is not None:
                self._answer(self._answers.tried, order.request.reason, ids)
            self._answer(self._answers.put_back, self._repaired(self._spool.last_sequence))
        if order.places:
            self._orders.put(order)
        elif (number := order.number) is not None:
            self._repaired(lambda: self._spool.whole.answer(number))
            self._asked.discard(number)

    def _expire(self, order: Expire) -> None:
        """Let go of some of what is too old, and leave the others to another turn."""
        gone = self._repaired(lambda: self._spool.expire(order.limit))
        if not gone:
            return
        self._errands.cross_off(gone.ids)
        DROPPED.labels(EXPIRED).inc(len(gone.ids) + sum(gone.apart.values()))
        log.warning("forward.faces_expired", waited=len(gone.ids), ids=gone.ids[:20], **gone.apart)
        self._answer(self._answers.expired, gone.ids)
        self._orders.put(order)

    def _erase(self, order: Erase) -> None:
        """Erase some of what was ordered, and leave the rest to another turn; at the end nothing is left."""
        if self._book is None:
            return
        self._book.add(order.order)
        gone = self._repaired(lambda: self._spool.whole.erase(order.order.selection))
        order.gone.update({"waiting": len(gone.ids)})
        order.gone.update(gone.apart)
        if gone:
            self._errands.cross_off(gone.ids)
            DROPPED.labels(ERASED).inc(len(gone.ids) + sum(gone.apart.values()))
            self._answer(self._answers.expired, gone.ids)
            self._orders.put(order)
            return
        files = self._repaired(self._spool.whole.scrub)
        if files is None:
            self._postponed.append(order)  # what was deleted stands in its pages yet
            return
        order.gone.update({"files": files})
        log.warning("forward.faces_erased", order=order.order.name, **order.gone)
        if not order.is_again:
            report = Report(order.order.name, self._book.device, dict(order.gone))
            self._book.done(report)
            self._answer(self._answers.erased, report)

    def _look(self) -> None:
        with contextlib.suppress(SpoolFull, SpoolUnwritable):
            state = self._repaired(self._spool.state)
            reasons = self._errands.reasons
            aside = Counter(state.set_aside) + reasons
            faces = max(0, state.faces - reasons.total())
            self.state = replace(state, faces=faces, set_aside=aside)

    def _repaired(self, work: Callable[[], T]) -> T:
        """Do something, and do it again with a new database if this one turns out to be damaged."""
        try:
            return work()
        except SpoolDamaged as error:
            self._replace(str(error))
            return work()

    def _replace(self, why: str) -> None:
        SPOOL_DAMAGED.inc()
        self._note("the spool is damaged, and is written anew")
        self._spool.replace(why)
        self._note(self._spool.why_no_room())
        # What was read out of its pages may have been erased long ago.
        for order in self._book.orders.values() if self._book is not None else ():
            self._orders.put(Erase(order, is_again=True))
        # Faces that could not be read before may be among those that can be now.
        self._answer(self._answers.put_back, self._spool.last_sequence())

    def _note_trouble(self, error: SpoolFull | SpoolUnwritable) -> None:
        if isinstance(error, SpoolFull):
            try:
                self._spool.make_room()
            except SpoolUnwritable as worse:
                error = worse
        is_full = isinstance(error, SpoolFull)
        self._note(DISK_FULL if is_full else f"the spool cannot be written: {error}")

    def _note(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.error("spool.takes_no_faces", why=problem)
        elif problem is None and self.problem is not None:
            log.info("spool.takes_faces")
        self.problem = problem

    def _tidy_when_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._tidied_s < (TIDY_EVERY_S if self.problem is None else TROUBLED_TIDY_EVERY_S):
            return
        self._tidied_s = now_s
        try:
            self._repaired(lambda: self._spool.tidy(is_tight=self.problem is not None))
            self._note(self._spool.why_no_room())
            self._see_requests()
            self._look()
        except (SpoolFull, SpoolUnwritable) as error:
            self._note_trouble(error)
        postponed, self._postponed = self._postponed, []
        for order in postponed:
            self._orders.put(order)

    def _see_requests(self) -> None:
        """Order what people have asked for: they write it into the database, whether forward runs or not."""
        for number, request in self._repaired(self._spool.requests):
            if number not in self._asked:
                self._asked.add(number)
                self._orders.put(PutBack(request, number))

    def _answer(self, answer: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone at the very end
            self._loop.call_soon_threadsafe(answer, *arguments)
