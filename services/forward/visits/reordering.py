"""Puts questions about a recording into the order of its frames: several detects ask in any order."""

from dataclasses import dataclass, field

from services.common.wire.seen import Seen

MOST_WAITING = 64
"""The most questions of a camera that wait; capture has far fewer frames unanswered."""
PATIENCE_S = 3.0
"""How long to wait for an earlier frame's question: its detect died, and another gets the frame."""


@dataclass(slots=True)
class ReorderBuffer:
    """Puts one recording's questions into order.

    A question waits until the question of the frame before it has passed. A frame without one before it
    begins the recording anew.
    """

    _last: int | None = None
    _waiting: dict[int, tuple[Seen, float]] = field(default_factory=dict)

    def put(self, seen: Seen, now_s: float) -> list[Seen]:
        """Add a question; return the questions whose turn it is, in order."""
        if seen.after is None:
            self._last = None
        elif not self._is_next(seen):
            self._waiting[seen.sequence] = (seen, now_s)
            return self.overdue(now_s)
        return self._through(seen)

    def overdue(self, now_s: float) -> list[Seen]:
        """Return the first question and those that follow it, if one has waited too long or too many wait."""
        if not self._waiting:
            return []
        first = min(self._waiting)
        since_s = min(put_s for _, put_s in self._waiting.values())
        if len(self._waiting) <= MOST_WAITING and now_s - since_s < PATIENCE_S:
            return []
        return self._through(self._waiting.pop(first)[0])

    def _is_next(self, seen: Seen) -> bool:
        return self._last is not None and seen.after is not None and seen.after <= self._last

    def _through(self, seen: Seen) -> list[Seen]:
        through = [seen]
        self._last = seen.sequence if self._last is None else max(self._last, seen.sequence)
        while (follower := self._follower()) is not None:
            through.append(follower)
            self._last = follower.sequence
        return through

    def _follower(self) -> Seen | None:
        for number, (seen, _) in sorted(self._waiting.items()):
            if self._is_next(seen):
                del self._waiting[number]
                return seen
        return None
