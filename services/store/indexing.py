"""Writes the index of stored faces, which spares galleries and queries the listing of each camera's folder.

No receipt depends on it: rows that are lost here are added when the index is repaired from the keys.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from services.common.runtime.concurrency import Backoff
from services.common.runtime.metrics import Drops
from services.common.storage.index import rows
from services.common.storage.index.rows import IndexRow
from services.common.storage.keys import FaceKey
from services.common.storage.objects import FileStore, StoreUnavailable
from services.store.admission import Admitted
from services.store.metrics import INDEXED, UNINDEXED

MOST_IN_A_FILE = 512
"""At this many rows a file is written, whatever their age."""
MOST_WAITING = 8_192
"""Rows that wait while the store takes none, some 8 MB; of more the oldest are dropped and counted."""
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
LAST_WRITE_S = 5.0
"""How long the last rows may take when the service ends."""

log = structlog.get_logger()
_drops = Drops(UNINDEXED, "store.index_incomplete")


@asynccontextmanager
async def indexing(
    files: FileStore, every_s: float, is_erased: Callable[[IndexRow], bool] = lambda _: False
) -> AsyncIterator[Callable[[Admitted], None]]:
    """Write the index for as long as the context lasts.

    Args:
        files: the bucket or folder.
        every_s: for how long a row may wait for others, in seconds; 0: nothing is written.
        is_erased: says whether a face was erased while its row waited.

    Yields:
        a function to call with each newly stored face.
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
    """Gathers rows and writes them, those of one hour into one file.

    Args:
        files: the bucket or folder.
        every_s: for how long a row may wait for others, in seconds.
        is_erased: see `indexing`.
    """

    def __init__(self, files: FileStore, every_s: float, is_erased: Callable[[IndexRow], bool]) -> None:
        self._files = files
        self._is_erased = is_erased
        self._every_s = every_s
        self._rows: list[IndexRow] = []
        self._begun = asyncio.Event()
        self._full = asyncio.Event()
        self._is_ending = False

    def note(self, admitted: Admitted) -> None:
        """Take a face that was stored."""
        face, item = admitted.face, admitted.item
        key = FaceKey(face.source, face.id, face.content_type)
        self._rows.append(IndexRow.of(key, len(item.body), item.metadata))
        self._begun.set()
        if len(self._rows) >= MOST_IN_A_FILE:
            self._full.set()
        if len(self._rows) > MOST_WAITING:
            del self._rows[0]
            _drops.count("too_many_waiting")

    async def run(self) -> None:
        """Write rows as they come due, until `end` was called and nothing is left to write."""
        while True:
            await self._gather()
            is_written = await self._write_until_done()
            if self._is_ending and not (is_written and self._rows):
                return

    async def _gather(self) -> None:
        """Wait for a row, and then for as long as it may wait for others."""
        await self._begun.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._every_s):
                await self._full.wait()
        if not self._is_ending:
            self._begun.clear()
            self._full.clear()

    async def end(self, writing: asyncio.Task[None]) -> None:
        """Have the task of `run` write what is left, if the store takes it soon; count what is not."""
        self._is_ending = True
        self._begun.set()
        self._full.set()
        # Not cancelled before: a file that is being written would be written twice.
        if (await asyncio.wait([writing], timeout=LAST_WRITE_S))[1]:
            writing.cancel()
        for _ in self._rows:
            _drops.count("ended")

    async def _write_until_done(self) -> bool:
        """Write the rows until the store takes them, at the end once only; return whether it did."""
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
        """Write the rows that wait; each leaves when its file is durable."""
        self._rows = [row for row in self._rows if not self._is_erased(row)]
        for some in rows.by_hour(rows.sorted_unique(self._rows)).values():
            body = rows.encode(some)
            await self._files.keep(rows.key_for(some, body), body)
            written = {row.id for row in some}
            self._rows = [row for row in self._rows if row.id not in written]
            INDEXED.inc(len(some))
