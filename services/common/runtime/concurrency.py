"""What loops wait for: a batch that fills, a free place among concurrent tasks, the next try."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Gatherer(Generic[T]):
    """Gathers items for a moment and hands them on together.

    Args:
        flush: called with each list of items, in the event loop.
        most: the number of items at which the list is handed on at once.
        delay_s: how long the first item may wait, seconds.
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
        """Hand on the items gathered so far, if any, without waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._items:
            items, self._items = self._items, []
            self._flush(items)


Item = TypeVar("Item")
Result = TypeVar("Result")


class ConcurrencyLimit:
    """Limits how many pieces of work run at a time, over all callers; the others wait.

    Args:
        most: pieces at a time.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def each(self, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        """Return the results of `work` for each item, in the items' order; the first error is raised."""

        async def one(item: Item) -> Result:
            async with self._free:
                return await work(item)

        return await asyncio.gather(*(one(item) for item in items))


class Backoff:
    """Waiting times, seconds, that double from `first_s` to `most_s`; each is random, from half of it on.

    The randomness keeps a fleet that lost its broker at one moment from coming back at one moment.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now, in seconds."""
        ceiling_s = self._next_s
        self._next_s = min(self._most_s, ceiling_s * 2)
        return random.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        """Start over: the last try went well."""
        self._next_s = self._first_s
