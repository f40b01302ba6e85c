"""Whether the other side of a connection is still there. Pure: time is an argument."""

ASK_AFTER_S = 1.5
"""So long is nobody asked after a sign of life."""
SILENT_S = 2.5
"""Without an answer for so long the other side is silent."""
GIVE_UP_S = 5.0
"""Without an answer for so long it is gone, and another connection is tried."""


class Pulse:
    """Asks the other side for a sign of life, and says how it answers.

    The keep-alive asks every 15 s, for on a metered link each question costs; that is too late for whoever
    waits for an answer, or wants to know whether there would be one.
    """

    def __init__(self, now_s: float) -> None:
        self._alive_s = now_s
        self._asked_s: float | None = None

    def is_alive(self, at_s: float) -> None:
        """Note a sign of life: something came, or something of ours was taken."""
        self._alive_s = max(self._alive_s, at_s)
        if self._asked_s is not None and self._alive_s > self._asked_s:
            self._asked_s = None

    def asks(self, now_s: float) -> bool:
        """Say whether it is time to ask, which is noted as done."""
        if self._asked_s is not None or now_s - self._alive_s < ASK_AFTER_S:
            return False
        self._asked_s = now_s
        return True

    def silent_s(self, now_s: float) -> float:
        """Return for how long a question has had no answer; 0 where none is open."""
        return 0.0 if self._asked_s is None else now_s - self._asked_s
