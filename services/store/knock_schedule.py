"""Whether what is subscribed to comes in. Pure: time is an argument."""

import math

MOST_WAIT_S = 5.0
"""So long may a knock be under way."""
KNOCKS = 3
"""So many that are not heard, one after the other, make a subscription deaf; and so many for each other
store, for a broker gives each knock to one of those that share a subscription."""
MOST_TIMES = 32
"""A subscription that was begun anew, and of which nothing is heard either, is given twice as many knocks;
up to so many times as many."""
OTHER_S = 600.0
"""A store whose knocks were not heard for so long is gone."""
MOST_OTHERS = 64


class KnockSchedule:
    """Says when to knock, and when nothing that is sent to us comes.

    Args:
        me: what tells our knocks from those of other stores.
        quiet_s: so long nothing comes before one is sent; 0: never is.
    """

    def __init__(self, me: str, quiet_s: float) -> None:
        self._me = me
        self._quiet_s = quiet_s
        self._wait_s = min(MOST_WAIT_S, quiet_s)
        self._times = 1
        self._others: dict[str, float] = {}
        self.begin(-math.inf)
        self._due_s = math.inf

    def begin(self, now_s: float) -> None:
        """Start with a new subscription, which is to show at once that it is one."""
        self._unheard = 0
        self._due_s = now_s if self._quiet_s else math.inf

    def end(self) -> None:
        """Knock no more until the next subscription."""
        self._due_s = math.inf

    def note_message(self, now_s: float, who: str | None = None) -> None:
        """Note that something came; of a knock, whose it is."""
        if self._due_s == math.inf:
            return
        self._unheard, self._times = 0, 1
        self._due_s = now_s + self._quiet_s
        if who is not None and who != self._me:
            self._others[who] = now_s
            while len(self._others) > MOST_OTHERS:
                del self._others[next(iter(self._others))]

    def is_knock_due(self, now_s: float) -> bool:
        """Say whether to knock now, which is noted as done."""
        if now_s < self._due_s or self.is_deaf(now_s):
            return False
        self._unheard += 1
        self._due_s = now_s + self._wait_s
        return True

    def is_deaf(self, now_s: float) -> bool:
        """Say whether enough knocks were not heard."""
        others = sum(now_s - heard_s < OTHER_S for heard_s in self._others.values())
        return now_s >= self._due_s and self._unheard >= KNOCKS * self._times * (1 + others)

    def note_resubscribed(self) -> None:
        """Note that it is begun anew for that."""
        self._times = min(2 * self._times, MOST_TIMES)
        self.end()
