import math

SAY_AGAIN_S = 60.0
_MOST = 64


class News:
    """Says which reasons of a trouble that goes on are worth a line: each change of them.

    Two that take turns are said once a minute each, for they may do so for days.
    """

    def __init__(self) -> None:
        self._last: str | None = None
        self._said_s: dict[str, float] = {}

    def is_news(self, reason: str, now_s: float) -> bool:
        """Say whether to say a reason now; if so, it counts as said.

        Args:
            reason: what is wrong.
            now_s: time that is never stepped, in seconds.
        """
        if reason == self._last or now_s - self._said_s.get(reason, -math.inf) < SAY_AGAIN_S:
            return False
        self._last = reason
        self._said_s[reason] = now_s
        if len(self._said_s) > _MOST:
            del self._said_s[next(iter(self._said_s))]
        return True

    def over(self) -> None:
        """The trouble is over; the next one's reason is news."""
        self._last = None
        self._said_s.clear()
