"""How fast each device may send. No clock: time is an argument."""

BURST_S = 2.0
"""So much of its allowance a device may use at once: faces come when people do, not evenly."""
_FIRST_LOOK = 1_024


class Rates:
    """Bounds the rate of each device, in some unit a second (the generic cell rate algorithm, ITU-T I.371).

    Of a device no more is remembered than when its allowance is whole again, and that no longer than until
    then.

    Args:
        most_per_s: what each device may send in a second; 0 for no bound.
    """

    def __init__(self, most_per_s: int) -> None:
        self._most_per_s = most_per_s
        self._whole_s: dict[str, float] = {}
        self._look_at = _FIRST_LOOK

    def __len__(self) -> int:
        return len(self._whole_s)

    def has_left(self, device: str, now_s: float) -> bool:
        """Say whether a device may send now. What goes beyond its allowance then delays its next one."""
        return self._most_per_s == 0 or self._whole_s.get(device, now_s) - now_s < BURST_S

    def spend(self, device: str, amount: int, now_s: float) -> None:
        """Take what a device has sent out of its allowance."""
        if self._most_per_s == 0:
            return
        self._whole_s[device] = max(self._whole_s.get(device, now_s), now_s) + amount / self._most_per_s
        if len(self._whole_s) > self._look_at:
            self._whole_s = {name: whole_s for name, whole_s in self._whole_s.items() if whole_s > now_s}
            self._look_at = max(_FIRST_LOOK, 2 * len(self._whole_s))
