"""Which of several brokers to use. Pure: time and randomness are arguments."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_REST_S = 5.0
MOST_REST_S = 300.0
"""A broker that failed is not tried for `FIRST_REST_S`, then twice as long each time, up to `MOST_REST_S`."""
LEFT_REST_S = 60.0
"""The first rest of a broker that accepted connections and was useless."""
FAILBACK_AFTER_S = 60.0
"""How long another broker is used before a preferred one is probed; spread over 0.5 to 1.5 times this."""


@dataclass(slots=True)
class _Standing:
    """How reliable one broker is: until when it is not tried, and for how long after the next failure."""

    rests_until_s: float = -math.inf
    next_rest_s: float = FIRST_REST_S

    def rest(self, now_s: float, least_s: float) -> None:
        wait_s = max(self.next_rest_s, least_s)
        self.rests_until_s = now_s + wait_s
        self.next_rest_s = min(2 * wait_s, MOST_REST_S)


class Failover:
    """Says which broker is next: the first in the client's own order that has not just failed.

    Each client has an order of its own, by rendezvous hashing (Thaler and Ravishankar, "Using Name-Based
    Mappings to Increase Hit Rates", 1998). So clients spread over all brokers, find the same one again after
    a restart, and spread over all others when one fails; when a broker is added, only those clients move
    that now prefer it.

    Brokers are numbered as in the list of addresses.

    Args:
        name: the client's, from which its order is made.
        addresses: the brokers'; at least one.
        spread: 0 to 1, random: when among other clients this one probes for a preferred broker.
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
        """The first in the client's order."""
        return self._order[0]

    def next(self, now_s: float) -> int:
        """Return the broker to try now; if all have just failed, the one whose rest ends first."""
        if (pointed_at := self._pointed_at) is not None:
            self._pointed_at = None
            return pointed_at
        for at in self._order:
            if not self._rests(at, now_s):
                return at
        return min(self._order, key=lambda at: self._standings[at].rests_until_s)

    def failed(self, at: int, now_s: float) -> None:
        """Note that a connection to a broker failed or was lost."""
        self._standings[at].rest(now_s, 0.0)

    def left(self, at: int, now_s: float) -> None:
        """Note that a broker accepted the connection and was useless."""
        self._standings[at].rest(now_s, LEFT_REST_S)

    def connected(self, at: int, now_s: float) -> None:
        """Note that there is a connection to a broker."""
        self._asked_s = now_s if at != self.preferred else math.inf

    def worked(self, at: int) -> None:
        """Note that a connection to a broker was a good one: its next failure counts as the first."""
        self._standings[at] = _Standing()

    def has_other(self, at: int, now_s: float) -> bool:
        """Return whether there is another broker that has not just failed."""
        return any(other != at and not self._rests(other, now_s) for other in self._order)

    def better(self, at: int, now_s: float) -> int | None:
        """Return a broker before `at` in the order that is to be probed now, or None."""
        if now_s - self._asked_s < self._home_after_s:
            return None
        self._asked_s = now_s
        before = self._order[: self._order.index(at)]
        return next((other for other in before if not self._rests(other, now_s)), None)

    def try_next(self, at: int) -> None:
        """Have `next` return this broker once, whatever its place in the order."""
        self._pointed_at = at

    def follow_reference(self, reference: str) -> bool:
        """Try the broker next that another one refers to, if it is in the list; return whether it is.

        Args:
            reference: a Server Reference (MQTT 5.0, section 4.11): `host:port`, several with spaces between.
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
