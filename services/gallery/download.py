"""A selection of faces as one ZIP file: streamed, newest first, of bounded size."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from services.common.runtime.metrics import Drops
from services.common.storage import sidecar
from services.common.storage.keys import FaceKey
from services.common.storage.objects import NoSuchObject, StoredObject, StoreUnavailable
from services.common.wire import envelope
from services.common.wire.faces import SUFFIXES
from services.gallery.access import add_safety
from services.gallery.album import Album
from services.gallery.archive import MOST_FACES, Archive
from services.gallery.filtering import FilteredPage, filtered_page
from services.gallery.metrics import DOWNLOAD_CUT, DOWNLOADED, REFUSED
from services.gallery.pages import key_in
from services.gallery.selection import PageSelection
from services.gallery.site import Context
from services.gallery.unsealing import Unsealer
from services.gallery.visits import VisitReader

MOST_BYTES = 512 * 1024 * 1024
MOST_LOOKED_AT = 10_000
"""Faces that a filter reads for one file."""
MOST_AT_ONCE = 2
"""Files that are made at a time."""
READS_AT_A_TIME = 4
"""Reads of one file at a time; so many images are in memory."""
BATCH = 120
PATIENCE_S = 30.0
"""Longest time that a client may take no bytes."""
NOTE = "about-this-file.txt"

_refused = Drops(REFUSED, "gallery.request_refused")
_cut = Drops(DOWNLOAD_CUT, "gallery.download_cut")


Batch = tuple[list[FaceKey], bool]
"""Some faces, and whether there are more after them."""


class Downloads:
    """Answers with ZIP archives of faces, laid out as a folder of the store.

    Args:
        context: the state that all pages share.
        unsealer: opens sealed faces; those that it cannot open stay sealed.
    """

    def __init__(self, context: Context, unsealer: Unsealer) -> None:
        self._context, self._unsealer = context, unsealer
        self._album = Album(context.objects, day_index=context.day_index)
        self._visits = VisitReader(context.objects, context.lookup)
        self._under_way = 0

    def add_to(self, app: web.Application) -> None:
        """Add the addresses to an application."""
        app.router.add_get("/download", self._selection, name="download", allow_head=False)
        app.router.add_get("/download/{key:.+}", self._visit, name="download_visit", allow_head=False)

    async def _selection(self, request: web.Request) -> web.StreamResponse:
        selection = PageSelection.read(request.query)
        first = await filtered_page(self._album, self._context.lookup, selection, BATCH)
        if first.page.day is None:
            raise NoSuchObject(request.path)
        parts = ("faceferry", selection.source, first.page.day.isoformat())
        return await self._send(request, "-".join(filter(None, parts)), self._batches(first))

    async def _visit(self, request: web.Request) -> web.StreamResponse:
        whole = await self._visits.whole(key_in(request))
        if whole is None:
            raise NoSuchObject(request.path)
        faces = [picture.key for picture in whole.group.pictures]
        return await self._send(
            request, f"faceferry-{whole.group.visit}", _only(faces, has_more=whole.is_cut)
        )

    async def _batches(self, found: FilteredPage) -> AsyncIterator[Batch]:
        """Yield the faces of a day from a page on, page by page."""
        looked_at = found.looked_at
        while (older := found.page.older) is not None and looked_at < MOST_LOOKED_AT:
            yield found.page.faces, True
            found = await filtered_page(self._album, self._context.lookup, older, BATCH)
            looked_at += found.looked_at
        yield found.page.faces, older is not None

    async def _send(
        self, request: web.Request, name: str, batches: AsyncIterator[Batch]
    ) -> web.StreamResponse:
        if self._under_way >= MOST_AT_ONCE:
            _refused.count("too_many_downloads")
            raise web.HTTPServiceUnavailable(
                text="other files are being loaded; try again in a moment\n", headers={"Retry-After": "10"}
            )
        self._under_way += 1
        try:
            return await self._stream(request, name.replace("/", "-"), batches)
        finally:
            self._under_way -= 1

    async def _stream(
        self, request: web.Request, name: str, batches: AsyncIterator[Batch]
    ) -> web.StreamResponse:
        headers = {
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="{name}.zip"',
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=add_safety(headers))
        await response.prepare(request)
        try:
            await self._pack(batches, lambda data: _write(response, data))
        except (StoreUnavailable, TimeoutError, ConnectionError) as error:
            # A connection that is cut shows an error; a closed archive would look complete.
            _cut.count(error.reason if isinstance(error, StoreUnavailable) else "not_taken")
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _pack(self, batches: AsyncIterator[Batch], write: Callable[[bytes], Awaitable[None]]) -> None:
        archive, tally = Archive(), _Tally()
        async for faces, has_more in batches:
            tally.has_more = has_more
            for some in _in_batches(faces):
                if tally.is_full:
                    tally.has_more = True
                    break
                for key, item in zip(some, await asyncio.gather(*map(self._get, some)), strict=True):
                    if item is None:
                        tally.gone += 1
                    else:
                        await write(self._added(archive, key, item))
                        tally.take(key, len(item.body))
            if tally.is_full and tally.has_more:
                break
        await write(archive.add(NOTE, tally.note.encode(), datetime.now(UTC)) + archive.end())

    async def _get(self, key: FaceKey) -> StoredObject | None:
        try:
            return await self._context.objects.get(str(key))
        except NoSuchObject:
            return None

    def _added(self, archive: Archive, key: FaceKey, item: StoredObject) -> bytes:
        """Add a face and its metadata; return the bytes that they add to the archive."""
        name, body, content_type = str(key), item.body, key.content_type
        if content_type == envelope.CONTENT_TYPE and (shown := self._unsealer.picture(key, item)) is not None:
            body, content_type = shown.image, shown.content_type
            name = name.removesuffix(SUFFIXES[key.content_type]) + SUFFIXES[content_type]
        known = sidecar.write(content_type, item.metadata)
        return archive.add(name, body, key.time) + archive.add(sidecar.key_of(name), known, key.time)


@dataclass(slots=True)
class _Tally:
    """What a file holds so far."""

    faces: int = 0
    bytes: int = 0
    gone: int = 0
    has_more: bool = False
    last: FaceKey | None = None

    def take(self, key: FaceKey, size_bytes: int) -> None:
        self.faces += 1
        self.bytes += size_bytes
        self.last = key
        DOWNLOADED.inc()

    @property
    def is_full(self) -> bool:
        return self.faces >= MOST_FACES or self.bytes >= MOST_BYTES

    @property
    def note(self) -> str:
        """The text of the note in the file."""
        lines = [f"{self.faces} faces, newest first, as they lie in a store."]
        if self.has_more and self.last is not None:
            lines.append(f"There are more than fit in one file: those before {self.last.id}.")
        if self.gone:
            lines.append(f"{self.gone} were deleted while this was made.")
        return "\n".join(lines) + "\n"


def _in_batches(faces: list[FaceKey]) -> Iterator[list[FaceKey]]:
    return (faces[start : start + READS_AT_A_TIME] for start in range(0, len(faces), READS_AT_A_TIME))


async def _only(faces: list[FaceKey], *, has_more: bool) -> AsyncIterator[Batch]:
    yield faces, has_more


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await response.write(data)
