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
