import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from services.common.mqtt.roster import Roster


class Lookout:
    """Looks from time to time whether a broker that we would rather use can be had, beside what goes on.

    Leaving it ends a look that has begun.

    Args:
        roster: says when to look, and at which.
        at: the broker that is used.
        look: says of a broker whether it lets us in.
    """

    def __init__(self, roster: Roster, at: int, look: Callable[[int], Awaitable[bool]]) -> None:
        self._roster = roster
        self._at = at
        self._look = look
        self._looking: asyncio.Task[int | None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def found(self, now_s: float) -> int | None:
        """Return a better broker that can be had; nothing as long as none was found."""
        if self._looking is None:
            if (at := self._roster.better(self._at, now_s)) is not None:
                self._looking = asyncio.create_task(self._see(at), name="mqtt.look")
            return None
        if not self._looking.done():
            return None
        found, self._looking = self._looking.result(), None
        return found

    async def _see(self, at: int) -> int | None:
        return at if await self._look(at) else None
