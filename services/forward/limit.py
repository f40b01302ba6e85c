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


class Pace:
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
