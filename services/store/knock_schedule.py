"""When to test a subscription with a message to ourselves, a knock. Pure: time is an argument."""

import math

MOST_WAIT_S = 5.0
"""How long a knock may take to come back."""
KNOCKS = 3
"""A subscription is deaf after this many knocks in a row that did not come back, times the number of stores:
of those that share a subscription a broker gives each knock to one."""
MOST_TIMES = 32
"""Each subscription in a row that is deaf from its start gets twice as many knocks, up to this many times."""
OTHER_S = 600.0
"""Another store counts until its knocks have not come for this long."""
MOST_OTHERS = 64


class KnockSchedule:
    """Says when to knock, and when a granted subscription delivers nothing.

    Times are seconds of a steady clock.

    Args:
        me: tells our knocks from those of other stores.
        quiet_s: without any message for this long, a knock is due; 0: never.
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
        """Start with a new subscription; a knock is due at once."""
        self._unheard = 0
        self._due_s = now_s if self._quiet_s else math.inf

    def end(self) -> None:
        """Stop until the next subscription."""
        self._due_s = math.inf

    def note_message(self, now_s: float, who: str | None = None) -> None:
        """Note that a message came.

        Args:
            now_s: when it came.
            who: the store whose knock it is; None for any other message.
        """
        if self._due_s == math.inf:
            return
        self._unheard, self._times = 0, 1
        self._due_s = now_s + self._quiet_s
        if who is not None and who != self._me:
            self._others[who] = now_s
            while len(self._others) > MOST_OTHERS:
                del self._others[next(iter(self._others))]

    def is_knock_due(self, now_s: float) -> bool:
        """Say whether to knock now; if so, the knock counts as sent."""
        if now_s < self._due_s or self.is_deaf(now_s):
            return False
        self._unheard += 1
        self._due_s = now_s + self._wait_s
        return True

    def is_deaf(self, now_s: float) -> bool:
        """Say whether so many knocks did not come back that the subscription is taken for deaf."""
        others = sum(now_s - heard_s < OTHER_S for heard_s in self._others.values())
        return now_s >= self._due_s and self._unheard >= KNOCKS * self._times * (1 + others)

    def note_resubscribed(self) -> None:
        """Note that the connection is made anew because the subscription was deaf."""
        self._times = min(2 * self._times, MOST_TIMES)
        self.end()
