"""A bounded queue that is fair to the devices whose items it holds. Pure."""

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar


class Ranking:
    """Finds the name with the largest part, in logarithmic time however many names there are.

    It is told only of growth. What it remembers of a name is never less than the name's part, so the first
    in the heap whose part is still as large has the largest.

    Args:
        part_of: returns a name's present part, 0..; 0 for one that is gone.
    """

    def __init__(self, part_of: Callable[[str], float]) -> None:
        self._part_of = part_of
        self._heap: list[tuple[float, str]] = []
        self._known: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def grew(self, name: str, most_names: int) -> None:
        """Note that a name's part has grown; `most_names` is how many names have one at all."""
        part = self._part_of(name)
        if part > self._known.get(name, 0.0):
            self._known[name] = part
            heapq.heappush(self._heap, (-part, name))
        if len(self._heap) > 2 * most_names + 1_024:
            self._start_over()

    def first(self) -> str | None:
        """Return the name with the largest part, or None if none has any."""
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
        """Forget names that are gone: they come from the network, so they must not pile up."""
        parts = {name: self._part_of(name) for name in self._known}
        self._known = {name: part for name, part in parts.items() if part > 0}
        self._heap = [(-part, name) for name, part in self._known.items()]
        heapq.heapify(self._heap)


MOST_TRIED = 64
"""Of a device with this many failed faces no new one is tried: it would hardly fare better."""


@dataclass(eq=False, kw_only=True)
class Queued:
    """An item of a `FairQueue`.

    Attributes:
        device: in whose share of the queue it counts.
        size_bytes: the memory that it takes.
    """

    device: str
    size_bytes: int


T = TypeVar("T", bound=Queued)


@dataclass(slots=True)
class _Share(Generic[T]):
    """One device's items: `new` ones, those `tried` without success, and in the sums those at work too."""

    new: OrderedDict[T, None] = field(default_factory=OrderedDict)
    tried: OrderedDict[T, None] = field(default_factory=OrderedDict)
    count: int = 0
    bytes: int = 0

    @property
    def at_work(self) -> int:
        return self.count - len(self.new) - len(self.tried)


class FairQueue(Generic[T]):
    """Items in memory that are not stored yet, bounded in number and bytes, fair to devices.

    Devices are served in turn, one item each, so that a device with few items waits only for those of its
    own. A device that is alone may fill the queue. When it is full, the device with the largest share loses
    its newest items, and after those the ones that failed last; their sender still has them. Items at work,
    which `next_new` and `next_retry` have returned, are never taken back: so at most half of the bytes are.

    Args:
        most: items that fit.
        most_bytes: bytes that fit.
        most_at_work: returns how many of a device's items may be at work at a time, at least one.
    """

    def __init__(
        self, most: int, most_bytes: int, most_at_work: Callable[[str], float] = lambda _: math.inf
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_at_work = most_at_work
        self._shares: dict[str, _Share[T]] = {}
        self._ranking = Ranking(self._part_of_queue)
        self._turn: OrderedDict[str, None] = OrderedDict()
        self._retries: deque[T] = deque()
        self._count = self._bytes = self._at_work_bytes = self._tried = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """The bytes of all items, those at work included."""
        return self._bytes

    @property
    def tried(self) -> int:
        """How many items have failed and wait to be tried again."""
        return self._tried

    def would_evict(self, device: str, size_bytes: int) -> bool:
        """Say whether a device's next item would be evicted: the queue is full and its share the largest."""
        if self._count < self._most and self._bytes + size_bytes <= self._most_bytes:
            return False
        return self._ranking.first() == device

    def add(self, item: T) -> list[T]:
        """Add an item; return those that are evicted for it, which may include itself."""
        share = self._shares.setdefault(item.device, _Share())
        share.new[item] = None
        share.count += 1
        share.bytes += item.size_bytes
        self._count += 1
        self._bytes += item.size_bytes
        self._enqueue(item.device)
        self._ranking.grew(item.device, len(self._shares))
        lost = []
        while self._count > self._most or self._bytes > self._most_bytes:
            lost.append(self._evict())
        return lost

    def next_new(self) -> T | None:
        """Return the next item that was not tried before, or None; it is at work from here on."""
        while self._turn:
            device = next(iter(self._turn))
            share = self._shares[device]
            item = next(iter(share.new))
            if not self._may_work(item):
                return None
            del self._turn[device], share.new[item]
            self._at_work_bytes += item.size_bytes
            self._enqueue(device)
            return item
        return None

    def next_retry(self) -> T | None:
        """Return the next item to be tried again, or None; it is at work from here on."""
        while self._retries:
            item = self._retries[0]
            share = self._shares.get(item.device)
            if share is None or item not in share.tried:
                self._retries.popleft()  # it was evicted
                continue
            if not self._may_work(item):
                return None
            self._retries.popleft()
            self._untry(share, item)
            self._at_work_bytes += item.size_bytes
            return item
        return None

    def failed(self, item: T) -> None:
        """Note that an item at work failed; it waits until `retry` is called with it."""
        self._at_work_bytes -= item.size_bytes
        self._shares[item.device].tried[item] = None
        self._tried += 1
        if len(self._shares[item.device].tried) >= MOST_TRIED:
            self._turn.pop(item.device, None)
        else:
            self._enqueue(item.device)

    def retry(self, item: T) -> None:
        """Have a failed item tried again, before new ones."""
        self._retries.append(item)

    def done(self, item: T) -> None:
        """Remove an item that was at work."""
        self._at_work_bytes -= item.size_bytes
        self._remove(item)

    def _evict(self) -> T:
        loser = self._shares[self._ranking.first() or ""]
        if not (loser.new or loser.tried):  # all that it has is at work
            others = (share for share in self._shares.values() if share.new or share.tried)
            loser = max(others, key=self._part_of_share)
        if loser.new:
            item, _ = loser.new.popitem()
            if not loser.new:
                self._turn.pop(item.device, None)
        else:
            item = next(reversed(loser.tried))
            self._untry(loser, item)
        self._remove(item)
        return item

    def _part_of_queue(self, device: str) -> float:
        share = self._shares.get(device)
        return 0.0 if share is None else self._part_of_share(share)

    def _part_of_share(self, share: _Share[T]) -> float:
        """Return the part of the queue that a device has, 0..1: of items or of bytes, whichever is larger."""
        return max(share.count / self._most, share.bytes / self._most_bytes)

    def _may_work(self, item: T) -> bool:
        at_work_bytes = self._at_work_bytes
        return at_work_bytes == 0 or at_work_bytes + item.size_bytes <= self._most_bytes // 2

    def _untry(self, share: _Share[T], item: T) -> None:
        del share.tried[item]
        self._tried -= 1
        self._enqueue(item.device)

    def _enqueue(self, device: str) -> None:
        share = self._shares[device]
        if share.new and len(share.tried) < MOST_TRIED and share.at_work < self._most_at_work(device):
            self._turn.setdefault(device)

    def _remove(self, item: T) -> None:
        share = self._shares[item.device]
        share.count -= 1
        share.bytes -= item.size_bytes
        if share.count == 0:  # names come from the network, so they must not pile up
            del self._shares[item.device]
        else:
            self._enqueue(item.device)
        self._count -= 1
        self._bytes -= item.size_bytes
