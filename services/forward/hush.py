"""When to send less, for nothing is heard. Pure: time is an argument."""

import math

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


class Hush:
    """Has faces go one by one, ever more seldom, while no receipt comes that should have come by now.

    A broker that hangs, or a way that swallows, is told from one that is idle only after seconds. All that is
    sent to it until then, a window full of it, has to be sent again by another one; what waits here has not.
    A store that was slow for a moment is not starved: with its next receipt all may go.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start anew: this is another connection, perhaps another link."""
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._since_s = math.inf
        self._next_s = self._gap_s = 0.0
        self._first_left: float = FEW
        self._again_left = FEW

    def departs(self, now_s: float, *, is_again: bool = False) -> None:
        """Note that a face leaves, for the first time over this connection or again."""
        self._first_left -= 1
        self._again_left -= is_again
        if self._since_s == math.inf:
            self._since_s, self._next_s = now_s, 0.0
            self._gap_s = self.patience_s
        elif now_s >= self._since_s + self.patience_s:
            self._next_s = now_s + self._gap_s
            self._gap_s = min(TIMES_LONGER * self._gap_s, MOST_GAP_S)

    def takes_back(self, *, is_last: bool) -> None:
        """Note that a face is not waited for any more, though nothing was heard: it did not go after all.

        Args:
            is_last: no other one is under way.
        """
        self._first_left += 1
        self._next_s, self._gap_s = 0.0, self.patience_s
        if is_last:
            self._since_s = math.inf

    def heard(self, took_s: float | None) -> None:
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

    def opens_s(self, now_s: float, *, is_again: bool = False) -> float:
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
