"""Open pages, each with the news that it has not been told yet (server-sent events)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.runtime.metrics import Drops
from services.gallery.metrics import DROPPED, VIEWERS

MAX_PENDING = 100
"""News that wait for one page; beyond it the oldest is dropped and counted: the page may be loaded again."""

_drops = Drops(DROPPED, "gallery.news_dropped")


class TooManyViewers(Exception):
    """No further page can be told of news."""


class Viewers:
    """Tells every open page.

    Args:
        most: pages at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending: set[asyncio.Queue[str | None]] = set()

    def __len__(self) -> int:
        return len(self._pending)

    def tell(self, news: str) -> None:
        """Hand on one event as it goes over the wire."""
        for pending in self._pending:
            if pending.full():
                pending.get_nowait()
                _drops.count("slow_viewer")
            pending.put_nowait(news)

    def dismiss(self) -> None:
        """Have every page's stream end."""
        for pending in self._pending:
            if pending.full():
                pending.get_nowait()
            pending.put_nowait(None)

    @contextmanager
    def joined(self) -> Iterator[asyncio.Queue[str | None]]:
        """Add a page; yield its queue of events, in which nothing means the end.

        Raises:
            TooManyViewers: there is no room.
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
