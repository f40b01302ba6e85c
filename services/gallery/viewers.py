"""Open pages, each with a queue of events to send (server-sent events)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.runtime.metrics import Drops
from services.gallery.metrics import DROPPED, VIEWERS

MAX_PENDING = 100
"""Events that wait for one page; beyond it the oldest is dropped and counted."""

_drops = Drops(DROPPED, "gallery.news_dropped")


class TooManyViewers(Exception):
    """As many pages are open as are allowed."""


class Viewers:
    """Sends events to every open page.

    Args:
        most: open pages at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending: set[asyncio.Queue[str | None]] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def tell(self, news: str) -> None:
        """Queue one event, as it goes over the wire, for every page; never waits."""
        for pending in self._pending:
            if pending.full():
                pending.get_nowait()
                _drops.count("slow_viewer")
            pending.put_nowait(news)

    def dismiss(self) -> None:
        """End every page's stream."""
        for pending in self._pending:
            if pending.full():
                pending.get_nowait()
            pending.put_nowait(None)

    @contextmanager
    def joined(self) -> Iterator[asyncio.Queue[str | None]]:
        """Add a page for as long as the context lasts; yield its queue of events, in which None is the end.

        Raises:
            TooManyViewers: as many are open as are allowed.
        """
        if len(self._pending) >= self._most:
            raise TooManyViewers
        pending: asyncio.Queue[str | None] = asyncio.Queue(MAX_PENDING)
        self._pending.add(pending)
        VIEWERS.set(len(self))
        try:
            yield pending
        finally:
            self._pending.discard(pending)
            VIEWERS.set(len(self))
