import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Batch(Generic[T]):
    """Gathers items for a moment and hands them on together.

    Args:
        flush: takes each list of items, in the event loop.
        most: items at which the list is handed on at once.
        delay_s: how long the first item may wait.
    """

    def __init__(self, flush: Callable[[list[T]], None], *, most: int, delay_s: float = 0.02) -> None:
        self._flush = flush
        self._most = most
        self._delay_s = delay_s
        self._items: list[T] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Add an item, and hand the list on if that makes it full."""
        self._items.append(item)
        if len(self._items) >= self._most:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self.flush)

    def flush(self) -> None:
        """Hand on what there is, without waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._items:
            items, self._items = self._items, []
            self._flush(items)
