"""Which face to send next. Pure: no clock, socket or disk; times are seconds of a monotonic clock."""

import math
from dataclasses import dataclass

from services.forward.congestion import CongestionWindow, Throttle
from services.forward.pending import FaceQueue, Flight, Flights
from services.forward.spool.commands import BacklogPart, BacklogRead
from services.forward.spool.face import SpooledFace

MOST_RESEND_S = 10.0
UNHEARD_S = 0.5
"""The first wait if the broker says that it has no subscriber; four times as long with each try."""
HOPELESS_AFTER = 5
"""A face is sent again so many times while others are receipted; then something is wrong with it alone."""
HOPELESS_BESIDE_OTHERS = 30
"""So many times if others of its own topic are receipted: an overloaded store drops any of them, and some by
chance again and again."""
MOST_PROBE_S = 60.0
"""The longest wait between two probes of a silent store."""
FRESH_MAX_BYTES = 4 * 1024 * 1024
"""New faces that wait in memory for room in the window; others are read back from disk later."""
BACKLOG_AHEAD_BYTES = 2 * 1024 * 1024
"""Faces of the backlog that are read ahead."""
LEAST_FACES = 2
"""So many may be in flight whatever their size: one on the link, and one whose receipt is on its way back."""
BACKLOG_SHARE = 0.75
"""How much of the window old faces may fill; the rest stays free for new ones."""


@dataclass(frozen=True, slots=True)
class FaceToSend:
    """A face to publish now.

    Attributes:
        face: what to publish.
        is_again: whether it was sent before over this connection.
        expiry_s: after how many seconds brokers may drop this copy, because the next one is sent then.
        is_hopeless: do not send it again, set it aside: others were receipted each time, and it never was.
    """

    face: SpooledFace
    is_again: bool
    expiry_s: int
    is_hopeless: bool = False


_BEFORE_ALL = -(1 << 63)


class Outbox:
    """Decides the order of sending: new faces first, then those due again, then the backlog as it arrived.

    Among new faces and in the backlog, what may be a person's first picture goes before pictures of people
    who have one already.

    The backlog stays on disk and is read in parts. It is all that was in the spool when the connection came
    up, and what came since faster than the link takes it. It is read twice: first pictures alone, then all
    that is still there. So nothing is left out, whatever the spool takes for a first picture.

    While nothing at all is receipted the store is silent, and is probed with one face at a time, with growing
    waits: it is found soon when it is back, and a metered uplink does not carry the same faces for ever.
    Before the store counts as silent, while a receipt is late, faces are throttled (see `Throttle`).

    Args:
        window: how many bytes may be in flight.
        resend_first_s: the first wait for a receipt, from the moment the broker has the face; doubled with
            each try up to `MOST_RESEND_S`.
        last_sequence: the place of the newest face that is in the spool already; 0 for none.

    Attributes:
        is_store_silent: whether faces were sent, and nothing was receipted since.
    """

    def __init__(self, window: CongestionWindow, resend_first_s: float, last_sequence: int = 0) -> None:
        self._window = window
        self._throttle = Throttle()
        self._resend_first_s = resend_first_s
        self._last_sequence = last_sequence
        self._epoch = 0
        self._is_reading = False
        self._backlog_end = last_sequence
        # Whether of first pictures only: up to which place it was read. Those come first.
        self._read_until = {True: _BEFORE_ALL, False: _BEFORE_ALL}
        self._reread_after: int | None = None
        self._heard_s = self._receipted_s = -math.inf
        self._probe_s = self._probe_wait_s = 0.0
        self._was_known = False
        self.is_store_silent = False
        self._forget()

    @property
    def in_flight_bytes(self) -> int:
        """Bytes sent and not yet receipted."""
        return self._flights.bytes

    def link_up(self) -> None:
        """Start sending, with all that is in the spool as the backlog."""
        self._forget()
        self._is_up = True
        self._window.start_over()
        self._throttle.start_over()
        self._probe_s, self._probe_wait_s = -math.inf, self._resend_first_s

    def link_down(self) -> None:
        """Stop sending. What was in flight is in the spool, and the next connection sends it again."""
        self._forget()

    def offer(self, face: SpooledFace) -> None:
        """Take a new face, whose insert into the spool is enqueued already."""
        self._last_sequence = max(self._last_sequence, face.sequence)
        if face.id in self._flights or face.id in self._fresh or face.id in self._backlog:
            return
        if not face.is_later:
            self._make_room(face.size_bytes)
        if self._is_up and self._fresh.bytes + face.size_bytes <= FRESH_MAX_BYTES:
            self._fresh.add(face)
        else:
            self._backlog_end = max(self._backlog_end, face.sequence)

    def extend(self, last_sequence: int) -> None:
        """Make what came into the spool in another way, up to this place, part of the backlog."""
        self._last_sequence = max(self._last_sequence, last_sequence)
        self._backlog_end = max(self._backlog_end, last_sequence)

    def next(self, now_s: float) -> FaceToSend | None:
        """Return what to publish now, which counts as in flight from here on, or None if all must wait."""
        if self.is_store_silent:
            return self._probe(now_s)
        is_held = self._note_when_open(now_s)
        if self._fresh and not is_held and self._has_room(1.0):
            return self._send_first(self._fresh.pop(), now_s)
        if self._again_from_s <= now_s and (flight := self._pop_late(now_s)) is not None:
            if flight.asked_s >= self._heard_s:
                self._note_silent(now_s, is_unheard=flight.is_unheard)
                return self._send_again(flight, now_s)
            flight.passed_over += 1
            is_hopeless = flight.passed_over >= self._patience_with(flight)
            return self._send_again(flight, now_s, is_hopeless=is_hopeless)
        if self._backlog and not is_held and self._has_room(BACKLOG_SHARE):
            return self._send_first(self._backlog.pop(), now_s)
        return None

    def next_due_s(self) -> float:
        """Return when to call `next` again if nothing else happens; infinite for never."""
        due_s = self._flights.next_due_s()
        is_waiting = bool(self._fresh or self._backlog)
        if not self.is_store_silent:
            due_s = max(due_s, self._again_from_s)
            return min(due_s, self._held_until_s) if is_waiting else due_s
        return self._probe_s if is_waiting else max(due_s, self._probe_s)

    def broker_has(self, face_id: str, now_s: float, *, is_unheard: bool = False) -> None:
        """Start to wait for the receipt. Before, the face may have been in a long queue to the broker.

        Args:
            face_id: the face.
            now_s: when the broker acknowledged it.
            is_unheard: the broker says that it has no subscriber. A store that lost the same broker as we
                did is back a moment after us, so the next try comes sooner.
        """
        if (flight := self._flights.get(face_id)) is not None:
            flight.asked_s = now_s
            flight.is_unheard = is_unheard
            soon_s = UNHEARD_S * 4.0 ** min(flight.attempts - 1, 10) if is_unheard else math.inf
            self._flights.set_due(flight, now_s + min(soon_s, self._wait_s(flight)))

    def withdraw(self, face_id: str) -> Flight | None:
        """Forget a face that is not to be sent; return its flight, or None if it was not in flight."""
        self._fresh.discard(face_id)
        self._backlog.discard(face_id)
        flight = self._flights.take(face_id)
        if flight is not None:
            self._throttle.withdrawn(is_last=not self._flights)
            if self.is_store_silent:
                self._probe_s = -math.inf  # a probe that no store can have heard
        return flight

    def settle(self, face_id: str, now_s: float) -> None:
        """Forget a face that the store has receipted, or refused, and learn from how long that took."""
        flight = self.withdraw(face_id)
        # The receipt of a face that was sent twice does not tell which copy it is for (Karn's rule).
        is_plain = flight is not None and flight.attempts == 1
        self._throttle.receipted(now_s - flight.sample.at_s if flight is not None and is_plain else None)
        self._note_heard(now_s)
        if flight is None:
            return
        self._heard_of_s[flight.face.message.topic] = now_s
        if is_plain:
            self._receipted_s = max(self._receipted_s, flight.asked_s)
            self._window.receipted(flight.sample, flight.face.size_bytes, now_s)

    def wants_backlog(self) -> BacklogRead | None:
        """Return what to read from the spool now, or None; `backlog` must be called with the answer."""
        if not self._is_up or self._is_reading:
            return None
        if (again_after := self._reread_after) is not None:
            self._read_until = {of: min(until, again_after) for of, until in self._read_until.items()}
            self._reread_after = None
        for only_firsts, until in self._read_until.items():
            ahead_bytes = self._backlog.bytes_of_firsts if only_firsts else self._backlog.bytes
            if ahead_bytes * 2 > BACKLOG_AHEAD_BYTES:
                return None
            if until < self._backlog_end:
                self._is_reading = True
                return BacklogRead(
                    self._epoch, until, self._backlog_end, BACKLOG_AHEAD_BYTES, only_firsts=only_firsts
                )
        return None

    def backlog(self, read: BacklogRead, part: BacklogPart) -> None:
        """Take what was read; an answer to an earlier connection is ignored."""
        if read.epoch != self._epoch:
            return
        self._is_reading = False
        self._read_until[read.only_firsts] = part.until
        for face in part.faces:
            if face.id not in self._flights and face.id not in self._fresh:
                self._backlog.add(face)

    def _forget(self) -> None:
        self._is_up = False
        self._held_until_s, self._again_from_s = math.inf, -math.inf
        self._epoch += 1
        self._flights = Flights()
        self._receipted_s = -math.inf
        self._heard_of_s: dict[str, float] = {}
        self._fresh = FaceQueue()
        self._backlog = FaceQueue()
        self._read_until = dict.fromkeys(self._read_until, _BEFORE_ALL)
        self._backlog_end = self._last_sequence
        self._reread_after = None
        self._is_reading = False

    def _note_when_open(self, now_s: float) -> bool:
        """Note until when faces are held back because a receipt is late; say whether new ones are now."""
        opens_s = self._throttle.may_send_at_s(now_s)
        self._held_until_s = opens_s if opens_s > now_s else math.inf
        self._again_from_s = self._throttle.may_send_at_s(now_s, is_again=True)
        return opens_s > now_s

    def _patience_with(self, flight: Flight) -> int:
        """Return how many times a face is sent again before it is set aside."""
        heard_s = self._heard_of_s.get(flight.face.message.topic, -math.inf)
        return HOPELESS_BESIDE_OTHERS if heard_s >= flight.asked_s else HOPELESS_AFTER

    def _note_silent(self, now_s: float, *, is_unheard: bool) -> None:
        self.is_store_silent = True
        # No store had the time for an answer yet.
        self._probe_wait_s = self._resend_first_s / (2 if is_unheard else 1)
        self._note_probe(now_s)

    def _probe(self, now_s: float) -> FaceToSend | None:
        """Return one face when it is time: in turn one that is in flight and one that was never sent.

        It may be just those in flight that no store answers for.
        """
        if now_s < self._probe_s:
            return None
        queue = self._fresh or self._backlog
        flight = None if queue and self._was_known else self._flights.pop_due(now_s)
        self._was_known = flight is not None
        if flight is not None:
            to_send = self._send_again(flight, now_s)
        elif queue:
            # One store may be silent, and another, which has other cameras, answer.
            face = queue.pop_unlike({each.face.message.topic for each in self._flights})
            if not self._has_room(1.0):
                self._leave_to_disk(next(iter(self._flights)).face)
            to_send = self._send_first(face, now_s)
        else:
            return None
        self._note_probe(now_s)
        return to_send

    def _make_room(self, size_bytes: int) -> None:
        """Leave later pictures to the disk, to have room for a new first picture."""
        while self._fresh.bytes + size_bytes > FRESH_MAX_BYTES and (last := self._fresh.last_later()):
            self._leave_to_disk(last)

    def _leave_to_disk(self, face: SpooledFace) -> None:
        """Drop a face from memory; it is read back from disk when its turn comes again."""
        self.withdraw(face.id)
        before = face.sequence - 1
        self._reread_after = before if self._reread_after is None else min(self._reread_after, before)
        self._backlog_end = max(self._backlog_end, face.sequence)

    def _note_probe(self, now_s: float) -> None:
        self._probe_wait_s = min(self._probe_wait_s * 2, MOST_PROBE_S)
        self._probe_s = now_s + self._probe_wait_s

    def _note_heard(self, now_s: float) -> None:
        self._heard_s = now_s
        if not self.is_store_silent:
            return
        self.is_store_silent = False
        # It may be slow rather than new: what is in flight gets time for an answer before it is sent again.
        for flight in self._flights:
            if flight.due_s < math.inf:
                self._flights.set_due(flight, now_s + self._resend_first_s)

    def _send_again(self, flight: Flight, now_s: float, *, is_hopeless: bool = False) -> FaceToSend:
        flight.attempts, flight.is_put_off = flight.attempts + 1, False
        self._throttle.sent(now_s, is_again=True)
        return FaceToSend(flight.face, is_again=True, expiry_s=self._wait_s(flight), is_hopeless=is_hopeless)

    def _has_room(self, share: float) -> bool:
        is_least = len(self._flights) < LEAST_FACES
        return is_least or self._flights.bytes < self._window.bytes * share

    def _send_first(self, face: SpooledFace, now_s: float) -> FaceToSend:
        is_limited = bool(self._fresh or self._backlog or self._is_reading)
        flight = Flight(face, self._window.sent(now_s, is_limited=is_limited))
        self._throttle.sent(now_s)
        self._flights.add(flight)
        return FaceToSend(face, is_again=False, expiry_s=self._wait_s(flight))

    def _pop_late(self, now_s: float) -> Flight | None:
        """Return a face that is due again and seems to be lost, or None.

        While receipts come, a face that the broker got after all receipted ones may be in the store's queue,
        because its bucket is slow or just back. So each of those is put off once.
        """
        while (flight := self._flights.pop_due(now_s)) is not None:
            # By a margin: a store writes many at a time, and may receipt the last of them first.
            overtaken_s = self._receipted_s - self._throttle.patience_s
            is_lost = flight.is_unheard or flight.is_put_off or flight.asked_s <= overtaken_s
            if is_lost or now_s - self._heard_s >= self._throttle.patience_s:
                return flight
            flight.is_put_off = True
            self._flights.set_due(flight, now_s + self._resend_first_s / 2)
        return None

    def _wait_s(self, flight: Flight) -> int:
        wait_s = self._resend_first_s * 2.0 ** min(flight.attempts - 1, 10)
        return math.ceil(min(wait_s, MOST_RESEND_S))
