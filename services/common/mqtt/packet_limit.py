"""How large a packet a broker takes that does not say so. Pure: time is an argument."""

from collections.abc import Iterable

SUSPECT_BYTES = 16_384
"""No broker is known that takes less; what is smaller is not the reason."""
SURE_AFTER = 2
"""So many connections in a row that ended with something large under way have it held back, for"""
TRIAL_S = 2.0
"""so long, in which the connection shows whether it stands without; ending once more makes it a rule, for"""
FIRST_HOLD_S = 60.0
"""so long, and twice as long each time, up to"""
MOST_HOLD_S = 3600.0
"""so long: limits are raised, and nobody tells us."""


class PacketLimit:
    """Learns from connections that end what a broker does not take.

    One that is told in so many words (DISCONNECT with 0x95) is believed at once.
    """

    def __init__(self) -> None:
        self._floor = 0  # the smallest that seemed to be too large
        self._strikes = 0
        self._until_s = float("-inf")

    def most_bytes(self, now_s: float) -> int | None:
        """Return the largest packet that may be sent now; nothing where none is known to be too large."""
        return self._floor - 1 if self._is_held(now_s) else None

    def begin(self, now_s: float) -> None:
        """Start with a new connection: it has to stand for a while before what is held is tried."""
        if self._strikes == SURE_AFTER:
            self._until_s = now_s + TRIAL_S

    def absent(self) -> None:
        """Note that there was no connection: who is away ended the last one for that, not for a packet."""
        if self._strikes <= SURE_AFTER:
            self._forget()

    def passed(self, size_bytes: int) -> None:
        """Note that a packet has come through."""
        if self._floor and size_bytes >= self._floor:
            self._forget()

    def ended(self, unanswered_bytes: Iterable[int], now_s: float, *, is_said: bool) -> None:
        """Note that a broker has ended a connection.

        Args:
            unanswered_bytes: sizes of the packets that were under way.
            now_s: when.
            is_said: it has said that one was too large.
        """
        largest = max(unanswered_bytes, default=0)
        if not is_said and self._is_held(now_s):
            return  # it was not that
        if largest < SUSPECT_BYTES and not (is_said and largest):
            if not is_said:
                self._forget()
            return
        self._floor = min(self._floor or largest, largest)
        self._strikes = max(self._strikes + 1, SURE_AFTER + 1 if is_said else 0)
        doublings = min(self._strikes - SURE_AFTER - 1, 10)
        hold_s = min(FIRST_HOLD_S * 2.0**doublings, MOST_HOLD_S) if doublings >= 0 else TRIAL_S
        self._until_s = now_s + hold_s

    def _is_held(self, now_s: float) -> bool:
        return self._strikes >= SURE_AFTER and now_s < self._until_s

    def _forget(self) -> None:
        self._floor = self._strikes = 0
