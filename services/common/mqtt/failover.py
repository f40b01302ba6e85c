"""Which of several brokers to use. Pure: time is an argument, chances too."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_REST_S = 5.0
MOST_REST_S = 300.0
"""A broker that failed is let rest: so long at first, twice as long each time."""
LEFT_REST_S = 60.0
"""The first rest of one that let us in, and then was of no use."""
FAILBACK_AFTER_S = 60.0
"""So long one broker serves before a better one is looked for; spread over half to one and a half of it."""


@dataclass(slots=True)
class _Standing:
    """How one broker does: until when it rests, and how long the next rest is."""

    rests_until_s: float = -math.inf
    next_rest_s: float = FIRST_REST_S

    def rest(self, now_s: float, least_s: float) -> None:
        wait_s = max(self.next_rest_s, least_s)
        self.rests_until_s = now_s + wait_s
        self.next_rest_s = min(2 * wait_s, MOST_REST_S)


class Failover:
    """Says which broker is next: the first in our own order that has not just failed.

    Each of those that share the brokers has an order of its own, by rendezvous hashing (Thaler and
    Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998). So they spread over all, find the
    same one again after a restart, and spread the load of one that is gone over all others; for a broker that
    is added none moves but those that are now its own.

    Brokers are numbered as they stand in the list.

    Args:
        name: ours, which the order is made from.
        addresses: theirs; at least one.
        spread: 0 to 1: when among others we look for a better one.
    """

    def __init__(self, name: str, addresses: Sequence[str], spread: float) -> None:
        self._addresses = tuple(addresses)
        self._order = sorted(range(len(addresses)), key=lambda at: _weight(name, addresses[at]), reverse=True)
        self._standings = [_Standing() for _ in addresses]
        self._home_after_s = FAILBACK_AFTER_S * (0.5 + spread)
        self._asked_s = math.inf
        self._pointed_at: int | None = None

    @property
    def preferred(self) -> int:
        """The first in our order."""
        return self._order[0]

    def next(self, now_s: float) -> int:
        """Return the one to try now. If all have failed it is the one that may be tried again soonest."""
        if (pointed_at := self._pointed_at) is not None:
            self._pointed_at = None
            return pointed_at
        for at in self._order:
            if not self._rests(at, now_s):
                return at
        return min(self._order, key=lambda at: self._standings[at].rests_until_s)

    def failed(self, at: int, now_s: float) -> None:
        """Note that there is no connection to one, or none any more."""
        self._standings[at].rest(now_s, 0.0)

    def left(self, at: int, now_s: float) -> None:
        """Note that one lets us in and is of no use."""
        self._standings[at].rest(now_s, LEFT_REST_S)

    def connected(self, at: int, now_s: float) -> None:
        """Note that there is a connection to one."""
        self._asked_s = now_s if at != self.preferred else math.inf

    def worked(self, at: int) -> None:
        """Note that a connection to one was a good one: if it fails, it is as for the first time."""
        self._standings[at] = _Standing()

    def has_other(self, at: int, now_s: float) -> bool:
        """Say whether there is another that has not just failed."""
        return any(other != at and not self._rests(other, now_s) for other in self._order)

    def better(self, at: int, now_s: float) -> int | None:
        """Return one before `at` in our order that is worth a look, or None while it is not yet time."""
        if now_s - self._asked_s < self._home_after_s:
            return None
        self._asked_s = now_s
        before = self._order[: self._order.index(at)]
        return next((other for other in before if not self._rests(other, now_s)), None)

    def try_next(self, at: int) -> None:
        """Try this one next, wherever it stands."""
        self._pointed_at = at

    def follow_reference(self, reference: str) -> bool:
        """Follow a broker's word that another serves us, if that is one of ours; say whether it is.

        Args:
            reference: what the broker says (MQTT 5.0, section 4.11): `host:port` each, with spaces between.
        """
        for address in reference.split():
            if address in self._addresses:
                self._pointed_at = self._addresses.index(address)
                return True
        return False

    def _rests(self, at: int, now_s: float) -> bool:
        return now_s < self._standings[at].rests_until_s


def _weight(name: str, address: str) -> bytes:
    return hashlib.sha256(f"{name}\n{address}".encode()).digest()
