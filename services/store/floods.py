"""Which devices are over their rate, and which flood the broker's queue. Pure: time is an argument."""

import math
from collections import OrderedDict
from collections.abc import Sequence

from services.common.wire.topics import ROOT, is_name

BURST_S = 2.0
"""How many seconds' worth of its rate a device may use at once: faces come when people do, not evenly."""
_FIRST_PRUNE = 1_024


class RateLimits:
    """Bounds each device's rate (the generic cell rate algorithm, ITU-T I.371).

    Of each device only the time is kept at which its allowance is full again, and no longer than until then.

    Args:
        most_per_s: what each device may send in a second, in any unit; 0 for no bound.
    """

    def __init__(self, most_per_s: int) -> None:
        self._most_per_s = most_per_s
        self._refilled_s: dict[str, float] = {}
        self._prune_at = _FIRST_PRUNE

    def __len__(self) -> int:
        return len(self._refilled_s)

    def allows(self, device: str, now_s: float) -> bool:
        """Say whether a device may send now. A message larger than what is left delays the next ones."""
        return self._most_per_s == 0 or self._refilled_s.get(device, now_s) - now_s < BURST_S

    def spend(self, device: str, amount: int, now_s: float) -> None:
        """Subtract from a device's allowance what it has sent."""
        if self._most_per_s == 0:
            return
        self._refilled_s[device] = max(self._refilled_s.get(device, now_s), now_s) + amount / self._most_per_s
        if len(self._refilled_s) > self._prune_at:
            self._refilled_s = {
                name: refilled_s for name, refilled_s in self._refilled_s.items() if refilled_s > now_s
            }
            self._prune_at = max(_FIRST_PRUNE, 2 * len(self._refilled_s))


FLOOD_AT = 64
"""A device floods that has this many messages rejected within `WITHIN_S`."""
WITHIN_S = 5.0
FLOOD_S = 60.0
"""A flood is over this long after it was last noticed."""
FLOOD_AT_WORK = 4
"""How many faces of a flooding device are written at a time: they share the slots with those of others."""
MOST_LANES = 2_048
"""How many devices have a lane at most: those that were heard of last."""


class FloodMonitor:
    """Tells which devices flood, and which others need a lane: a subscription of their own past the flood.

    A broker keeps one queue for each of our connections. A device that fills it has the messages of others
    dropped as well, and no reader is fast enough to prevent that. On another connection they have another
    queue. MQTT has no topic filter for all devices but one, so each is named; only devices that were heard
    of can be.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._rejected: dict[str, tuple[float, int]] = {}
        self._flooding_until_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._known) + len(self._rejected) + len(self._flooding_until_s)

    @property
    def flooding(self) -> frozenset[str]:
        """The devices that flood."""
        return frozenset(self._flooding_until_s)

    def note_accepted(self, device: str) -> None:
        """Note that a message of a device was accepted."""
        if device in self._known:
            self._known.move_to_end(device)
        elif is_name(device):
            self._known[device] = None
            if len(self._known) > MOST_LANES:
                self._known.popitem(last=False)

    def note_rejected(self, device: str, now_s: float) -> None:
        """Note that a message of a device was rejected."""
        since_s, count = self._rejected.get(device, (now_s, 0))
        if now_s - since_s > WITHIN_S:
            since_s, count = now_s, 0
        if count + 1 < FLOOD_AT:
            self._rejected[device] = since_s, count + 1
        else:
            self._rejected.pop(device, None)
            self._flooding_until_s[device] = now_s + FLOOD_S

    def lanes_wanted(self, now_s: float) -> frozenset[str]:
        """Return the devices that need a lane now: none while no device floods."""
        self._forget(now_s)
        if not self._flooding_until_s:
            return frozenset()
        return frozenset(self._known.keys() - self._flooding_until_s.keys())

    def most_at_work(self, device: str) -> float:
        """Return how many of a device's faces may be written at a time: few if it floods and is not alone."""
        has_others = len(self._known) > (device in self._known)
        return FLOOD_AT_WORK if has_others and device in self._flooding_until_s else math.inf

    def _forget(self, now_s: float) -> None:
        """Forget what is over: names come from the network, so they must not pile up."""
        self._flooding_until_s = {name: at_s for name, at_s in self._flooding_until_s.items() if at_s > now_s}
        self._rejected = {
            name: rejected for name, rejected in self._rejected.items() if now_s - rejected[0] <= WITHIN_S
        }


def lane_filters(filters: Sequence[str], device: str) -> list[str]:
    """Return the shared topic filters that match the messages of one device alone.

    Args:
        filters: of the shared subscription, each `$share/{group}/{filter}`. Those without a plus sign in the
            device's place are left out: they have no lanes.
        device: the name to put there.
    """
    found = []
    for text in filters:
        share, group, *levels = text.split("/")
        if levels[:2] == [ROOT, "+"]:
            found.append("/".join((share, group, ROOT, device, *levels[2:])))
    return found
