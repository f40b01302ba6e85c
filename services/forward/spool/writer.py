"""The thread that owns the spool. It carries out commands in order, many in one commit."""

import asyncio
import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVarTuple

import structlog

from services.forward.metrics import DROPPED
from services.forward.spool.commands import (
    BacklogListener,
    BacklogRead,
    Changes,
    Delete,
    Erase,
    Expire,
    InsertListener,
    PutBack,
    Quarantine,
    SetAside,
    SpoolCommand,
    WriteBatch,
)
from services.forward.spool.database import SpoolFull, SpoolUnwritable
from services.forward.spool.disk import Spool
from services.forward.spool.erasure_log import ErasureLog
from services.forward.spool.face import SpooledFace
from services.forward.spool.maintenance import Maintenance
from services.forward.spool.tables import SpoolState

MAX_BATCH = 256
MAX_BATCH_BYTES = 2 * 1024 * 1024
"""More would let the log outgrow the reserve, which has to take it in on a full disk."""
IDLE_S = 1.0
BETWEEN_MOVES_S = 0.1
"""Deferred moves are made when no command has come for so long."""
_MOST_IN_PIECE = 32

log = structlog.get_logger()

Ts = TypeVarTuple("Ts")


class SpoolWriter:
    """Takes commands for the spool, and carries them out in a thread of its own.

    `put` never waits. The queue of commands is bounded by the caller, which has at most the local link's
    receive maximum of faces without an answer.

    While the disk is full or takes no writes, new faces are turned away, because they would take the room
    that deletes need. Faces are read and sent as before, and deletes that fail are tried again. That ends
    when the reserve is restored.

    Args:
        spool: owned by the writer from now on.
        quarantine_max_bytes: how much refused faces may take.
        erasure_log: of the orders to erase, or None if this device takes none; only the writer adds to it.
    """

    def __init__(
        self, spool: Spool, quarantine_max_bytes: int, erasure_log: ErasureLog | None = None
    ) -> None:
        self._spool = spool
        self._quarantine_max_bytes = quarantine_max_bytes
        self._commands: queue.SimpleQueue[SpoolCommand | None] = queue.SimpleQueue()
        self._maintenance = Maintenance(spool, erasure_log, self._commands.put, self._tell)
        self._deferred = self._maintenance.deferred
        self._loop = asyncio.get_running_loop()
        self._carried = WriteBatch()

    @property
    def state(self) -> SpoolState:
        """What the spool held after the last commit."""
        return self._maintenance.state

    @property
    def problem(self) -> str | None:
        """Why no face is taken at present; None while faces are."""
        return self._maintenance.problem

    def put(self, command: SpoolCommand) -> None:
        """Enqueue a command; it is carried out behind all that came before it."""
        self._commands.put(command)

    def next_sequence(self) -> int:
        """Return the place of the next face; each one is given once."""
        return self._spool.next_sequence()

    async def run(self, receiver: InsertListener, sender: BacklogListener) -> None:
        """Work until cancelled, then carry out the commands that are left.

        Args:
            receiver: is told what became of the faces that it handed over.
            sender: is told what the spool holds.

        Raises:
            sqlite3.Error: the database fails in a way that only a restart may repair.
            SpoolTaken: the folder was replaced; another process may have it.
        """
        self._receiver = receiver
        self._maintenance.sender = sender
        with ThreadPoolExecutor(1, thread_name_prefix="spool") as pool:
            work = self._loop.run_in_executor(pool, self._work)
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self._commands.put(None)
                await work
                raise

    def _work(self) -> None:
        with contextlib.closing(self._spool):
            self._maintenance.tidy_when_due()
            while True:
                commands = self._next_commands()
                batch, self._carried = self._carried, WriteBatch()
                for command in commands:
                    batch = self._sort(command, batch)
                self._commit(batch)
                if None in commands:
                    self._maintenance.make_all_moves()
                    return
                self._maintenance.make_some_moves(is_idle=not commands)
                self._maintenance.tidy_when_due()

    def _sort(self, command: SpoolCommand | None, batch: WriteBatch) -> WriteBatch:
        """Add a command to the batch; if it cannot be part of one, commit the batch and carry it out."""
        match command:
            case SpooledFace():
                # Copies of one face too: each has a delivery that waits for its answer.
                batch.inserts.append(command)
            case Delete():
                batch.deletes[command.face_id] = None
            case Quarantine():
                batch.refused[command.face_id] = command.reason
            case SetAside():
                self._deferred.add_face(command.face_id, command.reason)
            case BacklogRead() | PutBack() | Expire() | Erase():
                self._commit(batch)
                self._maintenance.carry_out(command)
                return WriteBatch()
        return batch

    def _next_commands(self) -> list[SpoolCommand | None]:
        """Return the next commands, enough for one commit; none if none came for a while."""
        commands: list[SpoolCommand | None] = []
        size_bytes = 0
        with contextlib.suppress(queue.Empty):
            commands.append(self._commands.get(timeout=BETWEEN_MOVES_S if self._deferred else IDLE_S))
            while len(commands) < MAX_BATCH and size_bytes < MAX_BATCH_BYTES:
                commands.append(self._commands.get_nowait())
                if isinstance(commands[-1], SpooledFace):
                    size_bytes += commands[-1].size_bytes
        return commands

    def _commit(self, batch: WriteBatch) -> None:
        if not batch:
            return
        # What is stored before it was written need not be written at all.
        stored = [face for face in batch.inserts if face.id in batch.deletes]
        new = [face for face in batch.inserts if face.id not in batch.deletes]
        self._deferred.cross_off([*batch.deletes, *batch.refused])
        added = self._write(batch.changes(new)) if self.problem is None else None
        if added is not None:
            stored = [*new, *stored]
            new = []
        else:
            self._commit_in_pieces(batch)
        if stored:
            self._tell(self._receiver.written, stored, added or 0)
        if new:
            self._tell(self._receiver.turned_away, new)
        self._maintenance.update_state()

    def _write(self, changes: Changes) -> int | None:
        """Return how many new faces are on disk; if the commit failed note why, and return None."""
        try:
            if not self._spool.is_in_place():
                self._maintenance.replace("missing")
            added = self._maintenance.with_repair(lambda: self._spool.write(changes))
            if changes.refused:
                self._bound_quarantine()
        except (SpoolFull, SpoolUnwritable) as error:
            self._maintenance.note_trouble(error)
            return None
        return added

    def _bound_quarantine(self) -> None:
        gone = self._maintenance.with_repair(lambda: self._spool.bound_quarantine(self._quarantine_max_bytes))
        if gone:
            DROPPED.labels("quarantine_full").inc(len(gone))
            log.error("forward.quarantine_full", gone=len(gone), ids=gone[:20])

    def _commit_in_pieces(self, batch: WriteBatch) -> None:
        """Carry out a batch's deletes and moves in small commits; keep for later what the disk does not take.

        All of it may be too much for one commit on a disk with little room.
        """
        pieces = batch.pieces(_MOST_IN_PIECE)
        for number, piece in enumerate(pieces):
            # Twice: the first try, if it fails, makes room.
            if self._write(piece.changes([])) is None and self._write(piece.changes([])) is None:
                for left in pieces[number:]:
                    self._carried.take_over(left)
                return

    def _tell(self, listener: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Call a listener's method in the event loop, from the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is gone at the very end
            self._loop.call_soon_threadsafe(listener, *arguments)
