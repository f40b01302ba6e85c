"""What the writer does beside its batches, much of it in small parts, so that new faces do not wait long."""

import contextlib
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import structlog

from services.common.erasure.reports import Report
from services.common.erasure.selection import ERASED
from services.common.retention import EXPIRED
from services.common.runtime.metrics import Drops
from services.forward.metrics import DROPPED, SET_ASIDE, SPOOL_DAMAGED
from services.forward.spool.commands import (
    BacklogListener,
    BacklogRead,
    DeferredMoves,
    Erase,
    Expire,
    PutBack,
    SpoolCommand,
)
from services.forward.spool.database import SpoolDamaged, SpoolFull, SpoolUnwritable
from services.forward.spool.disk import Spool
from services.forward.spool.erasure_log import ErasureLog
from services.forward.spool.expiry import Removed
from services.forward.spool.folder import DISK_FULL
from services.forward.spool.tables import SpoolState

TIDY_EVERY_S = 5.0
TROUBLED_TIDY_EVERY_S = 1.0
"""The same on a disk that is full or takes no writes, to notice soon that this is over."""
MOVES_EVERY_S = 1.0
"""How often a few deferred moves are made, however many commands come."""
_PUT_BACK_AT_ONCE = 32
_MOVES_AT_ONCE = 64
_MOVES_BETWEEN = 8
"""How many are made then: each takes half as long as a face."""

log = structlog.get_logger()

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Tell(Protocol):
    """Calls a listener's method with its arguments, in the thread that it belongs to."""

    def __call__(self, listener: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Return at once; the call comes behind all calls before it."""


class Maintenance:
    """Keeps a spool usable and tidy, reads it, and puts back, expires, erases and sets aside faces.

    A damaged database is replaced, whichever step finds the damage. What a disk in trouble refuses
    is tried again when the disk is looked at next. For the writer's thread; `state` and `problem` may be
    read in any thread.

    Args:
        spool: the writer's.
        erasure_log: of the orders to erase, or None if this device takes none; added to only here.
        put: enqueues a command behind all others: the rest of one that is carried out in parts.
        tell: calls the sender's methods in the event loop.

    Attributes:
        state: what the spool held when it was looked at last.
        problem: why no face is taken at present; None while faces are.
        deferred: what is to be set aside when there is time.
        sender: is told what the spool holds; to be set before anything is done.
    """

    def __init__(
        self,
        spool: Spool,
        erasure_log: ErasureLog | None,
        put: Callable[[SpoolCommand], None],
        tell: Tell,
    ) -> None:
        self.state: SpoolState = spool.state()
        self.problem = spool.why_no_room()
        self.deferred = DeferredMoves()
        self.sender: BacklogListener
        self._spool = spool
        self._erasure_log = erasure_log
        self._put = put
        self._tell = tell
        self._postponed: list[SpoolCommand] = []
        self._asked: set[int] = set()
        self._asides = Drops(SET_ASIDE, "forward.face_set_aside")
        self._moved_s = -math.inf
        self._tidied_s = -math.inf
        if self.problem is not None:
            log.error("spool.takes_no_faces", why=self.problem)

    def carry_out(self, command: BacklogRead | PutBack | Expire | Erase) -> None:
        """Carry out a command that is not part of a batch; later, if the disk does not take it now."""
        try:
            match command:
                case BacklogRead():
                    self._read(command)
                case PutBack():
                    self._put_back(command)
                case Expire():
                    self._expire(command)
                case Erase():
                    self._erase(command)
        except (SpoolFull, SpoolUnwritable) as error:
            self.note_trouble(error)
            self._postponed.append(command)
        self.update_state()

    def update_state(self) -> None:
        """Update `state`."""
        with contextlib.suppress(SpoolFull, SpoolUnwritable):
            state = self.with_repair(self._spool.state)
            reasons = self.deferred.reasons
            aside = Counter(state.set_aside) + reasons
            faces = max(0, state.faces - reasons.total())
            self.state = dataclasses.replace(state, faces=faces, set_aside=aside)

    def with_repair(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, after another try with a new database if this one is damaged."""
        try:
            return work()
        except SpoolDamaged as error:
            self.replace(str(error))
            return work()

    def replace(self, why: str) -> None:
        """Write the database anew; see `Spool.replace` for what is raised."""
        SPOOL_DAMAGED.inc()
        self._note_problem("the spool is damaged, and is written anew")
        self._spool.replace(why)
        self._note_problem(self._spool.why_no_room())
        # What was found in its pages may have been erased before.
        for order in self._erasure_log.orders.values() if self._erasure_log is not None else ():
            self._put(Erase(order, is_again=True))
        # Faces that could not be read before may be among those that can be now.
        self._tell(self.sender.put_back, self._spool.last_sequence())

    def note_trouble(self, error: SpoolFull | SpoolUnwritable) -> None:
        """Take no more faces, and make room for the deletes of those that are held."""
        if isinstance(error, SpoolFull):
            try:
                self._spool.make_room()
            except SpoolUnwritable as worse:
                error = worse
        is_full = isinstance(error, SpoolFull)
        self._note_problem(DISK_FULL if is_full else f"the spool cannot be written: {error}")

    def tidy_when_due(self) -> None:
        """Every few seconds: tidy the spool, see operators' requests, and try again what was postponed."""
        now_s = time.monotonic()
        if now_s - self._tidied_s < (TIDY_EVERY_S if self.problem is None else TROUBLED_TIDY_EVERY_S):
            return
        self._tidied_s = now_s
        try:
            self.with_repair(lambda: self._spool.tidy(is_tight=self.problem is not None))
            self._note_problem(self._spool.why_no_room())
            self._see_requests()
            self.update_state()
        except (SpoolFull, SpoolUnwritable) as error:
            self.note_trouble(error)
        postponed, self._postponed = self._postponed, []
        for command in postponed:
            self._put(command)

    def make_some_moves(self, *, is_idle: bool) -> None:
        """Make many deferred moves while no commands come, else a few now and then."""
        if is_idle:
            self._make_moves(_MOVES_AT_ONCE)
        elif time.monotonic() - self._moved_s > MOVES_EVERY_S:
            self._make_moves(_MOVES_BETWEEN)

    def make_all_moves(self) -> None:
        """Make all deferred moves, or as many as the disk takes."""
        left = len(self.deferred) + 1
        while self.deferred and len(self.deferred) < left:
            left = len(self.deferred)
            self._make_moves(_MOVES_AT_ONCE)

    def _make_moves(self, most: int) -> None:
        """Set some deferred ones aside; on a disk in trouble they are as safe where they are."""
        self._moved_s = time.monotonic()
        if not self.deferred or self.problem is not None:
            return
        faces, bad_rows = self.deferred.some(most)
        try:
            done = self.with_repair(lambda: self._spool.whole.set_aside(faces, bad_rows))
        except (SpoolFull, SpoolUnwritable) as error:
            self.note_trouble(error)
        else:
            self.deferred.cross_off(done)
        self.update_state()

    def _read(self, command: BacklogRead) -> None:
        part = self.with_repair(lambda: self._spool.read(command))
        for place, reason in self.deferred.add_rows(part.bad).items():
            self._asides.count(reason, place=place)
        self._tell(self.sender.backlog_read, command, part)

    def _put_back(self, command: PutBack) -> None:
        """Put some faces back, and enqueue the rest."""
        if command.places is None:
            self.make_all_moves()
            found = self.with_repair(lambda: self._spool.whole.find_apart(command.request))
            command.places = found[: command.most]
            if command.places:
                log.info("forward.faces_put_back", faces=len(command.places))
        some = command.places[:_PUT_BACK_AT_ONCE]
        if some:
            ids, seen = self.with_repair(lambda: self._spool.put_back(some, command.request.device))
            del command.places[:seen]
            if command.most is not None and command.request.reason is not None:
                self._tell(self.sender.tried, command.request.reason, ids)
            self._tell(self.sender.put_back, self.with_repair(self._spool.last_sequence))
        if command.places:
            self._put(command)
        elif (number := command.number) is not None:
            self.with_repair(lambda: self._spool.whole.answer(number))
            self._asked.discard(number)

    def _expire(self, command: Expire) -> None:
        """Delete some of what is too old, and enqueue the rest."""
        gone = self.with_repair(lambda: self._spool.expire(command.limit))
        if gone:
            self._forget(gone, EXPIRED)
            log.warning("forward.faces_expired", waited=len(gone.ids), ids=gone.ids[:20], **gone.apart)
            self._put(command)

    def _erase(self, command: Erase) -> None:
        """Erase some of what was ordered, and enqueue the rest; at the end scrub the files, and report."""
        if self._erasure_log is None:
            return
        self._erasure_log.add(command.order)
        gone = self.with_repair(lambda: self._spool.whole.erase(command.order.selection))
        command.gone.update({"waiting": len(gone.ids)})
        command.gone.update(gone.apart)
        if gone:
            self._forget(gone, ERASED)
            self._put(command)
            return
        files = self.with_repair(self._spool.whole.scrub)
        if files is None:
            self._postponed.append(command)  # its pages still have what was deleted
            return
        command.gone.update({"files": files})
        log.warning("forward.faces_erased", order=command.order.name, **command.gone)
        if not command.is_again:
            report = Report(command.order.name, self._erasure_log.device, dict(command.gone))
            self._erasure_log.done(report)
            self._tell(self.sender.erased, report)

    def _forget(self, gone: Removed, why: str) -> None:
        """Count what was deleted, and have it neither moved nor sent."""
        self.deferred.cross_off(gone.ids)
        DROPPED.labels(why).inc(len(gone.ids) + sum(gone.apart.values()))
        self._tell(self.sender.expired, gone.ids)

    def _see_requests(self) -> None:
        """Enqueue operators' requests: they are in the database, written while forward runs or does not."""
        for number, request in self.with_repair(self._spool.requests):
            if number not in self._asked:
                self._asked.add(number)
                self._put(PutBack(request, number))

    def _note_problem(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.error("spool.takes_no_faces", why=problem)
        elif problem is None and self.problem is not None:
            log.info("spool.takes_faces")
        self.problem = problem
