import heapq
from collections.abc import Callable


class Ranking:
    """Knows who has most of something, however many there are and however often it is asked.

    It is told of what grows alone. What it remembers of a name is never less than what that has, so whoever
    comes first in the heap and still has as much has most.

    Args:
        part_of: what a name has just now; 0 for one that is gone.
    """

    def __init__(self, part_of: Callable[[str], float]) -> None:
        self._part_of = part_of
        self._heap: list[tuple[float, str]] = []
        self._known: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def grew(self, name: str, most_names: int) -> None:
        """Note that a name has more than before; so many names have anything at all."""
        part = self._part_of(name)
        if part > self._known.get(name, 0.0):
            self._known[name] = part
            heapq.heappush(self._heap, (-part, name))
        if len(self._heap) > 2 * most_names + 1_024:
            self._start_over()

    def first(self) -> str | None:
        """Return who has most; nothing if nobody has anything."""
        while self._heap:
            part, name = self._heap[0]
            now = self._part_of(name)
            if now == -part:
                return name
            heapq.heappop(self._heap)
            if self._known.get(name) == -part:  # else a later entry of it is there
                del self._known[name]
                if now > 0:
                    self._known[name] = now
                    heapq.heappush(self._heap, (-now, name))
        return None

    def _start_over(self) -> None:
        """Forget those that are gone: names come from the network."""
        parts = {name: self._part_of(name) for name in self._known}
        self._known = {name: part for name, part in parts.items() if part > 0}
        self._heap = [(-part, name) for name, part in self._known.items()]
        heapq.heapify(self._heap)
