"""Small things that loops wait on: batches, turns, news, and the growing waits between tries."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable
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


Item = TypeVar("Item")
Result = TypeVar("Result")


class Turns:
    """Keeps work that comes in numbers, and from several sides, to so many pieces at a time; the others wait.

    Args:
        most: pieces at a time.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def each(self, items: Iterable[Item], work: Callable[[Item], Awaitable[Result]]) -> list[Result]:
        """Return what work makes of each item, in their order."""

        async def one(item: Item) -> Result:
            async with self._free:
                return await work(item)

        return await asyncio.gather(*(one(item) for item in items))


SAY_AGAIN_S = 60.0
_MOST = 64


class News:
    """Says which reasons of a trouble that goes on are worth a line: each change of them.

    Two that take turns are said once a minute each, for they may do so for days.
    """

    def __init__(self) -> None:
        self._last: str | None = None
        self._said_s: dict[str, float] = {}

    def is_news(self, reason: str, now_s: float) -> bool:
        """Say whether to say a reason now; if so, it counts as said.

        Args:
            reason: what is wrong.
            now_s: time that is never stepped, in seconds.
        """
        if reason == self._last or now_s - self._said_s.get(reason, -math.inf) < SAY_AGAIN_S:
            return False
        self._last = reason
        self._said_s[reason] = now_s
        if len(self._said_s) > _MOST:
            del self._said_s[next(iter(self._said_s))]
        return True

    def over(self) -> None:
        """The trouble is over; the next one's reason is news."""
        self._last = None
        self._said_s.clear()


class Backoff:
    """Waiting times that double from `first_s` up to `most_s`, each spread over half to all of it.

    The spread keeps a fleet that lost its broker at one moment from coming back at one moment.
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
