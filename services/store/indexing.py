"""Writes down which faces are stored, for whoever wants to know without listing each camera's folder.

No receipt depends on it: what is lost here is added when the index is repaired from the keys.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from services.common.runtime.metrics import Drops
from services.common.runtime.queues import Backoff
from services.common.storage.index import rows
from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey
from services.common.storage.objects import Files, StoreUnavailable
from services.store.admission import Admitted
from services.store.metrics import INDEXED, UNINDEXED

MOST_IN_A_FILE = 512
"""Rows that are written at once, whatever their age."""
MOST_WAITING = 8_192
"""Rows that wait while the store takes none, some 8 MB; then the oldest go."""
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
LAST_WRITE_S = 5.0
"""So long may the last rows take when the service ends."""

log = structlog.get_logger()
_drops = Drops(UNINDEXED, "store.index_incomplete")


@asynccontextmanager
async def indexing(
    files: Files, every_s: float, is_erased: Callable[[Row], bool] = lambda _: False
) -> AsyncIterator[Callable[[Admitted], None]]:
    """Write the index for as long as the context lasts; yield what takes each face that was stored.

    Args:
        files: the store.
        every_s: for how long a row may wait for others; 0: nothing is written.
        is_erased: says of a face whether it was erased while its row waited.
    """
    if not every_s:
        yield lambda _admitted: None
        return
    index = IndexWriter(files, every_s, is_erased)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(index.run(), name="store.index")
        try:
            yield index.note
        finally:
            await index.end(writing)


class IndexWriter:
    """Gathers rows and writes them, those of an hour into a file of its own.

    Args:
        files: the store.
        every_s: for how long a row may wait for others.
        is_erased: see `indexing`.
    """

    def __init__(self, files: Files, every_s: float, is_erased: Callable[[Row], bool]) -> None:
        self._files = files
        self._is_erased = is_erased
        self._every_s = every_s
        self._rows: list[Row] = []
        self._begun = asyncio.Event()
        self._full = asyncio.Event()
        self._is_ending = False

    def note(self, admitted: Admitted) -> None:
        """Take a face that was stored."""
        face, item = admitted.face, admitted.item
        key = FaceKey(face.source, face.id, face.content_type)
        self._rows.append(Row.of(key, len(item.body), item.metadata))
        self._begun.set()
        if len(self._rows) >= MOST_IN_A_FILE:
            self._full.set()
        if len(self._rows) > MOST_WAITING:
            del self._rows[0]
            _drops.count("too_many_waiting")

    async def run(self) -> None:
        """Write what has come, at least so often, until told to end and nothing is left to be written."""
        while True:
            await self._gather()
            is_written = await self._write_until_done()
            if self._is_ending and not (is_written and self._rows):
                return

    async def _gather(self) -> None:
        """Wait until there is something, and then for as long as it may wait for more."""
        await self._begun.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._every_s):
                await self._full.wait()
        if not self._is_ending:
            self._begun.clear()
            self._full.clear()

    async def end(self, writing: asyncio.Task[None]) -> None:
        """Have what is left written, if the store takes it at once, by the task that runs."""
        self._is_ending = True
        self._begun.set()
        self._full.set()
        # It is not cancelled before: what is under way would be written twice.
        if (await asyncio.wait([writing], timeout=LAST_WRITE_S))[1]:
            writing.cancel()
        for _ in self._rows:
            _drops.count("ended")

    async def _write_until_done(self) -> bool:
        """Write what has come; return whether the store took it, which at the end is tried once."""
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        is_told = False
        while True:
            try:
                await self._write()
            except StoreUnavailable as error:
                if not is_told:
                    log.warning("store.index_waits", reason=error.reason, detail=error.detail)
                is_told = True
            else:
                return True
            if self._is_ending:
                return False
            await asyncio.sleep(backoff.next_s())

    async def _write(self) -> None:
        """Write what has come until now; what is not durable yet waits on."""
        self._rows = [row for row in self._rows if not self._is_erased(row)]
        for some in rows.by_hour(rows.tidied(self._rows)).values():
            body = rows.encode(some)
            await self._files.keep(rows.key_for(some, body), body)
            written = {row.id for row in some}
            self._rows = [row for row in self._rows if row.id not in written]
            INDEXED.inc(len(some))
