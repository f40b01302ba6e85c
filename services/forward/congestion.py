"""How much and how fast may be sent: a window after BBR, a throttle for late receipts, limits of the rate."""

import math
from dataclasses import dataclass

QUEUE_S = 0.4
"""How long a queue is kept on the way. It keeps the link full in spite of jitter, and is all that a new face
has to wait for."""
PROBE_EVERY_S = 20.0
RATE_EPOCH_S = 1.0


@dataclass(frozen=True, slots=True)
class SendSample:
    """What the window has to know of a face when its receipt comes.

    Attributes:
        at_s: when it was sent, in seconds of a monotonic clock.
        delivered_bytes: what had been receipted by then.
        is_limited: whether there was more to send than the window allowed.
    """

    at_s: float
    delivered_bytes: int
    is_limited: bool


class CongestionWindow:
    """How many bytes may be in flight, from what the receipts tell about the link.

    The window is what the link carries in one round trip and `QUEUE_S` more, after the model of BBR
    (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 2016): delivery rate and round
    trip are measured from receipts, and no loss or time-out is needed to find the limit. A fixed window
    would starve a long fast link, or put seconds of old faces before a new one on a slow link.

    Args:
        least_bytes: never below this. It may be little, because the outbox sends a few faces whatever their
            size: on a slow link a floor in bytes is seconds of old faces before a new one.
        most_bytes: never above this, because faces in flight are held in memory.

    Attributes:
        bytes: how many may be in flight now.
    """

    def __init__(self, least_bytes: int = 32 * 1024, most_bytes: int = 16 * 1024 * 1024) -> None:
        self._least_bytes = least_bytes
        self._most_bytes = most_bytes
        self.start_over()

    def start_over(self) -> None:
        """Forget what is known: this is another connection, perhaps another link."""
        self.bytes = min(self._least_bytes * 4, self._most_bytes)
        self._delivered_bytes = 0
        self._best_rate = self._last_best_rate = 0.0
        self._rate_epoch_s = 0.0
        self._round_trip_s = float("inf")
        self._round_trip_at_s = 0.0
        self._is_probing = False
        self._probe_started_s = self._drain_s = 0.0

    def sent(self, now_s: float, *, is_limited: bool) -> SendSample:
        """Return what is to be handed back with the receipt of a face that is sent now."""
        return SendSample(now_s, self._delivered_bytes, is_limited)

    def receipted(self, sample: SendSample, size_bytes: int, now_s: float) -> None:
        """Learn from the receipt of a face that was sent once, with what `sent` returned for it."""
        self._delivered_bytes += size_bytes
        round_trip_s = max(now_s - sample.at_s, 1e-4)
        self._learn_round_trip(round_trip_s, sample, now_s)
        self._learn_rate((self._delivered_bytes - sample.delivered_bytes) / round_trip_s, sample, now_s)
        if self._is_probing:
            self.bytes = self._least_bytes
            return
        wanted = max(self._best_rate, self._last_best_rate) * (self._round_trip_s + QUEUE_S)
        self.bytes = int(min(max(wanted, self._least_bytes), self._most_bytes))

    def _learn_round_trip(self, round_trip_s: float, sample: SendSample, now_s: float) -> None:
        """Keep the shortest round trip; let the queue drain now and then to measure it afresh."""
        if round_trip_s <= self._round_trip_s:
            self._round_trip_s, self._round_trip_at_s = round_trip_s, now_s
            self._is_probing = False
        elif self._is_probing and sample.at_s > self._probe_started_s + self._drain_s:
            # This one was sent when the queue was gone, so the link itself has become longer.
            self._round_trip_s, self._round_trip_at_s = round_trip_s, now_s
            self._is_probing = False
        elif not self._is_probing and now_s - self._round_trip_at_s > PROBE_EVERY_S:
            self._is_probing = True
            self._probe_started_s = now_s
            self._drain_s = round_trip_s

    def _learn_rate(self, rate: float, sample: SendSample, now_s: float) -> None:
        """Keep the best rate of this epoch and of the one before: a sliding maximum at little cost.

        If the window held nothing back the rate is what there was to send, not what the link carries; then it
        counts only if it is better than what is known.
        """
        if not sample.is_limited and rate <= max(self._best_rate, self._last_best_rate):
            return
        if now_s - self._rate_epoch_s > max(RATE_EPOCH_S, 2 * self._round_trip_s):
            self._rate_epoch_s = now_s
            self._last_best_rate, self._best_rate = self._best_rate, 0.0
        self._best_rate = max(self._best_rate, rate)


class TokenBucket:
    """A limit in bytes a second, which allows a burst of a tenth of a second.

    Args:
        bytes_per_s: the limit; 0 for none.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._most = bytes_per_s / 10
        self._tokens = self._most
        self._at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return for how many seconds to wait before the next face; 0 for none."""
        if self._bytes_per_s == 0:
            return 0.0
        gained = max(0.0, now_s - self._at_s) * self._bytes_per_s
        self._tokens = min(self._most, self._tokens + gained)
        self._at_s = now_s
        return max(0.0, -self._tokens / self._bytes_per_s)

    def spend(self, size_bytes: int) -> None:
        """Note the bytes of a face that was sent; a debt delays the next one."""
        if self._bytes_per_s:
            self._tokens -= size_bytes


FIRST_SPACING_S = 0.01
MOST_SPACING_S = 1.0
EASE_EVERY_S = 60.0


class MessageSpacing:
    """The least time between two faces, for a broker that says that they come too fast.

    Each complaint doubles it; each minute without one halves it.
    """

    def __init__(self) -> None:
        self._gap_s = 0.0
        self._changed_s = 0.0
        self._sent_s = float("-inf")

    def slower(self, now_s: float) -> None:
        """Note that the broker has complained."""
        self._gap_s = min(max(FIRST_SPACING_S, 2 * self._gap_s), MOST_SPACING_S)
        self._changed_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Return for how many seconds to wait before the next face; 0 for none."""
        while self._gap_s and now_s - self._changed_s > EASE_EVERY_S:
            self._gap_s = self._gap_s / 2 if self._gap_s > FIRST_SPACING_S else 0.0
            self._changed_s += EASE_EVERY_S
        return max(0.0, self._sent_s + self._gap_s - now_s)

    def sent(self, now_s: float) -> None:
        """Note that a face is sent."""
        self._sent_s = now_s


LEAST_PATIENCE_S = 0.25
"""A receipt is late after its average time and `DEVIATIONS` mean deviations, but not before this (like TCP's
timer in RFC 6298, section 2)."""
DEVIATIONS = 4
FIRST_PATIENCE_S = 1.0
"""When a receipt is late before one has come (1 s in RFC 6298, too)."""
FEW = 4
"""So many faces may be sent over a new connection before the first receipt, because no store may listen
there; and so many may be sent again before the next receipt, because a store that was heard once may have all
of them, and wait for its bucket."""
TIMES_LONGER = 4
MOST_GAP_S = 4.0
"""While a receipt is late each gap is `TIMES_LONGER` times the one before, up to this."""


class Throttle:
    """While a receipt is late, allows one face at a time, with growing gaps.

    It takes seconds to tell a broker that hangs, or a link that drops all, from an idle one. What is sent
    until then, up to a window full, has to be sent again by another broker; what is held back here has not.
    A store that was slow for a moment is not starved: its next receipt ends the throttling.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget what is known: this is another connection, perhaps another link."""
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._since_s = math.inf
        self._next_s = self._gap_s = 0.0
        self._first_left: float = FEW
        self._again_left = FEW

    def sent(self, now_s: float, *, is_again: bool = False) -> None:
        """Note that a face is sent, for the first time over this connection or again."""
        self._first_left -= 1
        self._again_left -= is_again
        if self._since_s == math.inf:
            self._since_s, self._next_s = now_s, 0.0
            self._gap_s = self.patience_s
        elif now_s >= self._since_s + self.patience_s:
            self._next_s = now_s + self._gap_s
            self._gap_s = min(TIMES_LONGER * self._gap_s, MOST_GAP_S)

    def withdrawn(self, *, is_last: bool) -> None:
        """Note that a face's receipt is not waited for any more, though none has come.

        Args:
            is_last: no other face is in flight.
        """
        self._first_left += 1
        self._next_s, self._gap_s = 0.0, self.patience_s
        if is_last:
            self._since_s = math.inf

    def receipted(self, took_s: float | None) -> None:
        """Note a receipt.

        Args:
            took_s: how long it took; None if that is not known.
        """
        self._since_s = self._first_left = math.inf
        self._again_left = FEW
        if took_s is None:
            return
        if self._usual_s is None:
            self._usual_s, self._deviation_s = took_s, took_s / 2
            return
        self._deviation_s += (abs(took_s - self._usual_s) - self._deviation_s) / 4
        self._usual_s += (took_s - self._usual_s) / 8

    def may_send_at_s(self, now_s: float, *, is_again: bool = False) -> float:
        """Return when the next face may be sent, for the first time or again; by `now_s` if it may now."""
        late_s = self._since_s + self.patience_s
        if now_s >= late_s:
            return max(self._next_s, late_s)
        return now_s if (self._again_left if is_again else self._first_left) > 0 else late_s

    @property
    def patience_s(self) -> float:
        """After how many seconds a receipt is late."""
        if self._usual_s is None:
            return FIRST_PATIENCE_S
        return max(LEAST_PATIENCE_S, self._usual_s + DEVIATIONS * self._deviation_s)
