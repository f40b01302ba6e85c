"""Many small pieces of work, some at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

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
