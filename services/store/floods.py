"""Which devices are to have a lane past a flood, by how fast each sends. Pure: time is an argument."""

import math
from collections import OrderedDict
from collections.abc import Sequence

from services.common.wire.topics import ROOT, is_name

BURST_S = 2.0
"""So much of its allowance a device may use at once: faces come when people do, not evenly."""
_FIRST_PRUNE = 1_024


class RateLimits:
    """Bounds the rate of each device, in some unit a second (the generic cell rate algorithm, ITU-T I.371).

    Of a device no more is remembered than when its allowance is whole again, and that no longer than until
    then.

    Args:
        most_per_s: what each device may send in a second; 0 for no bound.
    """

    def __init__(self, most_per_s: int) -> None:
        self._most_per_s = most_per_s
        self._refilled_s: dict[str, float] = {}
        self._prune_at = _FIRST_PRUNE

    def __len__(self) -> int:
        return len(self._refilled_s)

    def allows(self, device: str, now_s: float) -> bool:
        """Say whether a device may send now. What goes beyond its allowance then delays its next one."""
        return self._most_per_s == 0 or self._refilled_s.get(device, now_s) - now_s < BURST_S

    def spend(self, device: str, amount: int, now_s: float) -> None:
        """Take what a device has sent out of its allowance."""
        if self._most_per_s == 0:
            return
        self._refilled_s[device] = max(self._refilled_s.get(device, now_s), now_s) + amount / self._most_per_s
        if len(self._refilled_s) > self._prune_at:
            self._refilled_s = {
                name: refilled_s for name, refilled_s in self._refilled_s.items() if refilled_s > now_s
            }
            self._prune_at = max(_FIRST_PRUNE, 2 * len(self._refilled_s))


FLOOD_AT = 64
"""So many of a device's messages that were not let in"""
WITHIN_S = 5.0
"""within so long are a flood,"""
FLOOD_S = 60.0
"""which is over when it has not been one for so long."""
FLOOD_AT_WORK = 4
"""So many of its faces are written at a time meanwhile: each takes a while from what others have at work."""
MOST_LANES = 2_048
"""So many devices at most have one: those that were heard of last."""


class FloodMonitor:
    """Tells devices that flood from those that are to get past them.

    A broker keeps one queue for each of our connections. Where one device fills that, what others send is
    dropped from it, too, and no reader is so fast that it could not be filled. On another connection they
    have a queue of their own. There is no topic filter for all devices but one, so they are named one by one;
    a device can be named that was heard of.
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
        """Note that a message of a device was let in."""
        if device in self._known:
            self._known.move_to_end(device)
        elif is_name(device):
            self._known[device] = None
            if len(self._known) > MOST_LANES:
                self._known.popitem(last=False)

    def note_rejected(self, device: str, now_s: float) -> None:
        """Note that one was not."""
        since_s, count = self._rejected.get(device, (now_s, 0))
        if now_s - since_s > WITHIN_S:
            since_s, count = now_s, 0
        if count + 1 < FLOOD_AT:
            self._rejected[device] = since_s, count + 1
        else:
            self._rejected.pop(device, None)
            self._flooding_until_s[device] = now_s + FLOOD_S

    def lanes_wanted(self, now_s: float) -> frozenset[str]:
        """Return the devices that are to have a lane now: nobody while nobody floods."""
        self._forget(now_s)
        if not self._flooding_until_s:
            return frozenset()
        return frozenset(self._known.keys() - self._flooding_until_s.keys())

    def most_at_work(self, device: str) -> float:
        """Return how many of its faces may be written at a time: few while it floods and is not alone."""
        has_others = len(self._known) > (device in self._known)
        return FLOOD_AT_WORK if has_others and device in self._flooding_until_s else math.inf

    def _forget(self, now_s: float) -> None:
        """Forget what is over: names come from the network, so they must not pile up."""
        self._flooding_until_s = {name: at_s for name, at_s in self._flooding_until_s.items() if at_s > now_s}
        self._rejected = {
            name: rejected for name, rejected in self._rejected.items() if now_s - rejected[0] <= WITHIN_S
        }


def lane_filters(filters: Sequence[str], device: str) -> list[str]:
    """Return the topic filters by which one device's part of shared ones is asked for.

    Args:
        filters: `$share/{group}/{filter}` each; those in which all devices are not named with a plus sign in
            the place of the device have no lanes.
        device: whose.
    """
    found = []
    for text in filters:
        share, group, *levels = text.split("/")
        if levels[:2] == [ROOT, "+"]:
            found.append("/".join((share, group, ROOT, device, *levels[2:])))
    return found
