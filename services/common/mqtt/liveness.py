"""Whether the broker at the other end of a connection still answers. Pure: time is an argument."""

ASK_AFTER_S = 1.0
"""No question is asked within this time after a sign of life."""
SILENT_S = 2.5
"""A broker that has not answered for this long counts as silent: the link is not ready."""
GIVE_UP_S = 5.0
"""A connection without an answer for this long is given up, but not before `TIMES_LONGEST` times what
the last answer took."""
TIMES_LONGEST = 3
MOST_GIVE_UP_S = 60.0
"""The longest wait for an answer."""
AGAIN_S = 60.0
"""Two connections given up within this time are assumed to have needed only more time."""


class Heartbeat:
    """Decides when to ask the broker for a sign of life (PINGREQ), and when to give the connection up.

    The keep-alive asks only every 15 s, because on a metered link each question costs. That is too late for a
    caller that waits for an answer, or asks whether the link is ready.

    It outlives a connection: where a hop in between buffers seconds of our bytes, each connection would be
    given up before its first answer. So the wait doubles if the connection before was given up too.
    """

    def __init__(self) -> None:
        self._alive_s = 0.0
        self._asked_s: float | None = None
        self._give_up_s = GIVE_UP_S
        self._gave_up_s = float("-inf")

    def begin(self, now_s: float) -> None:
        """Note a new connection."""
        self._alive_s = now_s
        self._asked_s = None

    def is_alive(self, at_s: float) -> None:
        """Note a sign of life at a time: bytes came in, or the other side acknowledged bytes of ours."""
        self._alive_s = max(self._alive_s, at_s)
        if self._asked_s is not None and self._alive_s > self._asked_s:
            took_s = self._alive_s - self._asked_s
            self._give_up_s = min(max(GIVE_UP_S, TIMES_LONGEST * took_s), MOST_GIVE_UP_S)
            self._asked_s = None

    def asks(self, now_s: float) -> bool:
        """Return whether to ask now; if so, it counts as done."""
        if self._asked_s is not None or now_s - self._alive_s < ASK_AFTER_S:
            return False
        self._asked_s = now_s
        return True

    def gives_up(self, now_s: float) -> bool:
        """Return whether to give the connection up; if so, the next one is given more time."""
        if self.silent_s(now_s) <= self._give_up_s:
            return False
        is_again = now_s - self._gave_up_s < AGAIN_S + self._give_up_s
        self._give_up_s = min(2 * self._give_up_s, MOST_GIVE_UP_S) if is_again else GIVE_UP_S
        self._gave_up_s = now_s
        return True

    def silent_s(self, now_s: float) -> float:
        """Return for how long a question has had no answer; 0.0 if none is open."""
        return 0.0 if self._asked_s is None else now_s - self._asked_s
