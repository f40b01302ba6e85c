"""How much and how fast may be sent: a window after BBR, a throttle for late receipts, limits of the rate."""

import math
from dataclasses import dataclass

QUEUE_S = 0.4
"""How long the queue may be that we keep on the way. It fills the link whatever its jitter, and a new face
overtakes no more than this."""
PROBE_EVERY_S = 20.0
RATE_EPOCH_S = 1.0


@dataclass(frozen=True, slots=True)
class SendSample:
    """What the window has to know of a face when its receipt comes back.

    Attributes:
        at_s: when it was sent, in seconds of a monotonic clock.
        delivered_bytes: what had been receipted by then.
        is_limited: whether there was more to send than the window let through.
    """

    at_s: float
    delivered_bytes: int
    is_limited: bool


class CongestionWindow:
    """How many bytes may be under way, from what the receipts say of the link.

    The window is what the link carries in one round trip and `QUEUE_S` more, after the model of BBR
    (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 2016): delivery rate and round
    trip are measured from receipts, and no loss or time-out is needed to find the limit. A fixed window
    would starve a long fast link, or put seconds of old faces before a new one on a slow link.

    Args:
        least_bytes: never below this. Whoever sends lets a few faces go whatever they weigh, so it may be
            little: on a slow link a floor in bytes is seconds of old faces before a new one.
        most_bytes: never above this, for faces under way are held in memory.
    """

    def __init__(self, least_bytes: int = 32 * 1024, most_bytes: int = 16 * 1024 * 1024) -> None:
        self._least_bytes = least_bytes
        self._most_bytes = most_bytes
        self.start_over()

    def start_over(self) -> None:
        """Start anew: this is another connection, perhaps another link."""
        self.bytes = min(self._least_bytes * 4, self._most_bytes)
        self._delivered_bytes = 0
        self._best_rate = self._last_best_rate = 0.0
        self._rate_epoch_s = 0.0
        self._round_trip_s = float("inf")
        self._round_trip_at_s = 0.0
        self._is_probing = False
        self._probe_started_s = self._drain_s = 0.0

    def sent(self, now_s: float, *, is_limited: bool) -> SendSample:
        """Note that a face leaves."""
        return SendSample(now_s, self._delivered_bytes, is_limited)

    def receipted(self, sample: SendSample, size_bytes: int, now_s: float) -> None:
        """Learn from the receipt of a face that was sent once."""
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
            # This one left when the queue was gone, so the link itself has become longer.
            self._round_trip_s, self._round_trip_at_s = round_trip_s, now_s
            self._is_probing = False
        elif not self._is_probing and now_s - self._round_trip_at_s > PROBE_EVERY_S:
            self._is_probing = True
            self._probe_started_s = now_s
            self._drain_s = round_trip_s

    def _learn_rate(self, rate: float, sample: SendSample, now_s: float) -> None:
        """Keep the best rate of this epoch and of the one before, which is a sliding maximum for little.

        A face that the window did not hold back tells what there was to send, not what the link carries: it
        counts only if it is better than what is known.
        """
        if not sample.is_limited and rate <= max(self._best_rate, self._last_best_rate):
            return
        if now_s - self._rate_epoch_s > max(RATE_EPOCH_S, 2 * self._round_trip_s):
            self._rate_epoch_s = now_s
            self._last_best_rate, self._best_rate = self._best_rate, 0.0
        self._best_rate = max(self._best_rate, rate)


class TokenBucket:
    """A limit in bytes a second that lets a tenth of a second's worth pass at once.

    Args:
        bytes_per_s: the limit; 0 for none.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._most = bytes_per_s / 10
        self._tokens = self._most
        self._at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait until something may be sent; 0 for now."""
        if self._bytes_per_s == 0:
            return 0.0
        gained = max(0.0, now_s - self._at_s) * self._bytes_per_s
        self._tokens = min(self._most, self._tokens + gained)
        self._at_s = now_s
        return max(0.0, -self._tokens / self._bytes_per_s)

    def spend(self, size_bytes: int) -> None:
        """Take a face's bytes out; the debt delays the next one."""
        if self._bytes_per_s:
            self._tokens -= size_bytes


FIRST_GAP_S = 0.01
MOST_GAP_S = 1.0
EASE_EVERY_S = 60.0


class MessageSpacing:
    """Keeps faces apart for a broker that says that they come too fast.

    Each complaint doubles the time between two of them; each minute without one halves it.
    """

    def __init__(self) -> None:
        self._gap_s = 0.0
        self._changed_s = 0.0
        self._sent_s = float("-inf")

    def slower(self, now_s: float) -> None:
        """Note a complaint."""
        self._gap_s = min(max(FIRST_GAP_S, 2 * self._gap_s), MOST_GAP_S)
        self._changed_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait until something may be sent; 0 for now."""
        while self._gap_s and now_s - self._changed_s > EASE_EVERY_S:
            self._gap_s = self._gap_s / 2 if self._gap_s > FIRST_GAP_S else 0.0
            self._changed_s += EASE_EVERY_S
        return max(0.0, self._sent_s + self._gap_s - now_s)

    def sent(self, now_s: float) -> None:
        """Note that one is sent."""
        self._sent_s = now_s


LEAST_PATIENCE_S = 0.25
"""So long may a receipt take, and"""
DEVIATIONS = 4
"""longer where it usually does: what it takes on average, and so many of its mean deviations."""
FIRST_PATIENCE_S = 1.0
"""So long before anything is known of that (as in RFC 6298, section 2, for TCP's timer, which is like it)."""
FEW = 4
"""So many may go over a new connection before one of them is receipted, for nobody may listen there; and so
many may go again before another receipt comes: a store that was heard for a moment may have all of them, and
a bucket that does not take them."""
TIMES_LONGER = 4
MOST_GAP_S = 4.0
"""Each gap is so many times as long as the one before, up to this."""


class Throttle:
    """Has faces go one by one, ever more seldom, while no receipt comes that should have come by now.

    A broker that hangs, or a way that swallows, is told from one that is idle only after seconds. All that is
    sent to it until then, a window full of it, has to be sent again by another one; what waits here has not.
    A store that was slow for a moment is not starved: with its next receipt all may go.
    """

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Start anew: this is another connection, perhaps another link."""
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._since_s = math.inf
        self._next_s = self._gap_s = 0.0
        self._first_left: float = FEW
        self._again_left = FEW

    def sent(self, now_s: float, *, is_again: bool = False) -> None:
        """Note that a face leaves, for the first time over this connection or again."""
        self._first_left -= 1
        self._again_left -= is_again
        if self._since_s == math.inf:
            self._since_s, self._next_s = now_s, 0.0
            self._gap_s = self.patience_s
        elif now_s >= self._since_s + self.patience_s:
            self._next_s = now_s + self._gap_s
            self._gap_s = min(TIMES_LONGER * self._gap_s, MOST_GAP_S)

    def withdrawn(self, *, is_last: bool) -> None:
        """Note that a face is not waited for any more, though nothing was heard: it did not go after all.

        Args:
            is_last: no other one is under way.
        """
        self._first_left += 1
        self._next_s, self._gap_s = 0.0, self.patience_s
        if is_last:
            self._since_s = math.inf

    def receipted(self, took_s: float | None) -> None:
        """Note a receipt.

        Args:
            took_s: what it took; nothing where that is not known.
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
        """Return when the next face may go, for the first time or again: no later than now where one may."""
        late_s = self._since_s + self.patience_s
        if now_s >= late_s:
            return max(self._next_s, late_s)
        return now_s if (self._again_left if is_again else self._first_left) > 0 else late_s

    @property
    def patience_s(self) -> float:
        """How long a receipt may take."""
        if self._usual_s is None:
            return FIRST_PATIENCE_S
        return max(LEAST_PATIENCE_S, self._usual_s + DEVIATIONS * self._deviation_s)
