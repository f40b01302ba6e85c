"""When a live camera's next picture is worth sending, as detect's answers say it."""

from services.common.frames import MOST_NEXT_S

MOST_PERIOD_S = 0.25
"""A camera that pauses for longer has not become a slower one."""
_NEW = 0.125
"""What the last period counts in the mean of all."""


class Pace:
    """Holds back pictures for as long as the last answer says, counted from the picture that went out last.

    A picture is due from half a camera's period before that time on: of two that are as near the first is
    taken, and on the average there are as many as are asked for. Until the next answer, the same holds after
    the next picture: a detect that is slow is not to be given more for it. Before the first answer, and when
    answers fail to come, each picture is due.

    Args:
        most_s: for longer no answer holds a picture back; 0 where the user has said how many go out.
    """

    def __init__(self, most_s: float = MOST_NEXT_S) -> None:
        self._most_s = most_s
        self._came_s: float | None = None
        self._period_s = 0.0
        self._pause_s = 0.0
        self._sent_s: float | None = None
        self._answered = -1

    def is_due(self, came_s: float) -> bool:
        """Say whether the picture that comes at this moment is worth sending; to be asked once of each.

        Args:
            came_s: now, by a clock that is never set, in seconds.
        """
        if self._came_s is not None:
            period_s = min(MOST_PERIOD_S, came_s - self._came_s)
            self._period_s += (period_s - self._period_s) * (_NEW if self._period_s else 1)
        self._came_s = came_s
        return self._sent_s is None or came_s >= self._sent_s + self._pause_s - self._period_s / 2

    def sent(self, came_s: float) -> None:
        """Note that the picture that came at this moment goes out."""
        self._sent_s = came_s

    def answered(self, sequence: int, next_s: float | None) -> None:
        """Take an answer; one that was overtaken by a later frame's says nothing of what is due now.

        Args:
            sequence: the number of its frame.
            next_s: for how long no picture is worth sending; nothing where detect does not say.
        """
        if sequence >= self._answered:
            self._answered, self._pause_s = sequence, min(self._most_s, next_s or 0.0)

    def forget(self) -> None:
        """Have the next picture sent: nobody knows what has become of the last."""
        self._pause_s = 0.0
        self._sent_s = None
        self._answered = -1
