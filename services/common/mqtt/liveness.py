"""Whether the other side of a connection is still there. Pure: time is an argument."""

ASK_AFTER_S = 1.0
"""So long is nobody asked after a sign of life."""
SILENT_S = 2.5
"""Without an answer for so long the other side is silent."""
GIVE_UP_S = 5.0
"""Without an answer for so long it is gone, and another connection is tried; but"""
TIMES_LONGEST = 3
"""no sooner than after so many times what an answer has taken before."""
MOST_GIVE_UP_S = 60.0
AGAIN_S = 60.0
"""Two that were given up within so long have the same reason, and time may be all that is wanted."""


class Heartbeat:
    """Asks the other side for a sign of life, and says how it answers.

    The keep-alive asks every 15 s, for on a metered link each question costs; that is too late for whoever
    waits for an answer, or wants to know whether there would be one.

    It lasts longer than a connection: where a hop in between keeps seconds of our bytes, each would end
    before the first answer, and so waits twice as long as the one before if that was given up, too.
    """

    def __init__(self) -> None:
        self._alive_s = 0.0
        self._asked_s: float | None = None
        self._give_up_s = GIVE_UP_S
        self._gave_up_s = float("-inf")

    def begin(self, now_s: float) -> None:
        """Start with a new connection."""
        self._alive_s = now_s
        self._asked_s = None

    def is_alive(self, at_s: float) -> None:
        """Note a sign of life: something came, or something of ours was taken."""
        self._alive_s = max(self._alive_s, at_s)
        if self._asked_s is not None and self._alive_s > self._asked_s:
            took_s = self._alive_s - self._asked_s
            self._give_up_s = min(max(GIVE_UP_S, TIMES_LONGEST * took_s), MOST_GIVE_UP_S)
            self._asked_s = None

    def asks(self, now_s: float) -> bool:
        """Say whether it is time to ask, which is noted as done."""
        if self._asked_s is not None or now_s - self._alive_s < ASK_AFTER_S:
            return False
        self._asked_s = now_s
        return True

    def gives_up(self, now_s: float) -> bool:
        """Say whether the other side is to be taken for gone; the next is given more time."""
        if self.silent_s(now_s) <= self._give_up_s:
            return False
        is_again = now_s - self._gave_up_s < AGAIN_S + self._give_up_s
        self._give_up_s = min(2 * self._give_up_s, MOST_GIVE_UP_S) if is_again else GIVE_UP_S
        self._gave_up_s = now_s
        return True

    def silent_s(self, now_s: float) -> float:
        """Return for how long a question has had no answer; 0 where none is open."""
        return 0.0 if self._asked_s is None else now_s - self._asked_s
