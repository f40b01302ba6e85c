"""The addresses of the pages, and the handlers that answer them."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.erasure.entries import LogEntry
from services.common.errors import Refused
from services.common.storage.keys import FaceKey
from services.common.storage.objects import NoSuchObject, ObjectStore, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.storage.visits import Group, Part, Picture
from services.common.wire import envelope, times
from services.gallery import chart
from services.gallery.access import Access, add_safety
from services.gallery.album import Album, Page
from services.gallery.archive import MOST_FACES
from services.gallery.cameras import MOST_CAMERAS, MOST_DAYS, DayIndex, camera_list_of, merged
from services.gallery.counts import Counts
from services.gallery.details import describe
from services.gallery.erasing import Erasing
from services.gallery.feeds import Feeds
from services.gallery.filtering import filtered_page
from services.gallery.metrics import ANSWER_SECONDS
from services.gallery.overview import survey_devices
from services.gallery.pages import ASSETS, Assets, Pages, clock, day_address, key_in
from services.gallery.presence import Presence, StatusChange
from services.gallery.reading import ReadHealth
from services.gallery.selection import QUALITIES, SIZES, PageSelection
from services.gallery.settings import GallerySettings
from services.gallery.setup_steps import setup_steps
from services.gallery.unsealing import Unsealer
from services.gallery.viewers import TooManyViewers, Viewers
from services.gallery.visits import VisitReader

PATIENCE_S = 0.2
"""Longest time that a page waits for its chart."""
HEARTBEAT_S = 15.0
"""Longest pause on a stream of events: a proxy closes one that is idle."""
FOREVER = "private, max-age=31536000, immutable"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Context:
    """The state that all pages share.

    Attributes:
        objects: the store.
        health: whether the last read of the store succeeded.
        presence: the devices and cameras.
        viewers: the open pages.
        counts: counts faces by the hour.
        lookup: finds the visits that faces belong to.
        day_index: finds faces of all devices together; None: only some devices are listed.
        erasing: erases faces; None where pages may not.
    """

    objects: ObjectStore
    health: ReadHealth
    presence: Presence
    viewers: Viewers
    counts: Counts
    lookup: VisitLookup
    day_index: DayIndex | None = None
    erasing: Erasing | None = None

    def forget(self, order: LogEntry) -> None:
        """Drop what is remembered of faces that were erased."""
        chosen = order.selection
        self.lookup.forget(
            lambda key, part: chosen.takes(key.source, key.id, part.visit if part is not None else None)
        )
        self.counts.forget()


class GallerySite:
    """Answers requests.

    Args:
        settings: the service's.
        context: the state that all pages share.
        assets: what pages refer to.
        pages: makes them.
        access: decides who may look; None: no token is needed.
    """

    def __init__(
        self, settings: GallerySettings, context: Context, assets: Assets, pages: Pages, access: Access | None
    ) -> None:
        self._settings = settings
        self._context = context
        self._assets = assets
        self._pages = pages
        self._access = access
        self._unsealer = Unsealer(settings.identities)
        self._album = Album(context.objects, day_index=context.day_index)
        self._visits = VisitReader(context.objects, context.lookup)
        self._feeds = Feeds(
            self._album,
            context.lookup,
            self._visits,
            context.health,
            pages,
            access,
            settings.gallery_page_faces,
        )

    def add_to(self, app: web.Application) -> None:
        """Add the pages to an application."""
        app.middlewares.append(self._answering)
        app.router.add_get("/", self._faces, name="faces")
        self._feeds.add_to(app)
        app.router.add_get("/devices", self._devices, name="devices")
        app.router.add_get("/face/{key:.+}", self._face, name="face")
        app.router.add_get("/visit/{key:.+}", self._visit, name="visit")
        app.router.add_get("/image/{key:.+}", self._image, name="image")
        app.router.add_get("/object/{key:.+}", self._object, name="object")
        app.router.add_get("/events", self._events, name="events")
        app.router.add_get("/static/{name}", self._static, name="static")

    @property
    def _answering(self) -> Middleware:
        @web.middleware
        async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
            began_s = time.monotonic()
            response = await self._answer(request, handler)
            name = request.match_info.route.name
            if name is not None and name != "events":
                ANSWER_SECONDS.labels(name).observe(time.monotonic() - began_s)
            return response

        return answering

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return the handler's answer, or a page that says what went wrong."""
        try:
            response = await handler(request)
        except StoreUnavailable as error:
            self._context.health.failed(error)
            return self._pages.problem(503, "The store cannot be read just now", f"It says: {error.reason}.")
        except (NoSuchObject, web.HTTPNotFound):
            return self._pages.problem(404, "There is nothing here", "No face is stored under this address.")
        except Refused:
            return self._pages.problem(
                400, "This address makes no sense", "Start again from the newest faces."
            )
        return response

    async def _faces(self, request: web.Request) -> web.Response:
        selection = PageSelection.read(request.query)
        found = await filtered_page(
            self._album, self._context.lookup, selection, self._settings.gallery_page_faces
        )
        page = found.page
        self._context.health.worked()
        by_visit = await self._visits.group_by_visit(page.faces)
        counts = await self._count(page)
        camera_list = merged(page.camera_list, camera_list_of(self._context.presence.cameras))
        return self._pages.html(
            "faces.html",
            page=page,
            found=found,
            steps=setup_steps(self._context.presence) if page.day is None else [],
            by_visit=by_visit,
            detectors=self._context.lookup.detectors(page.faces),
            selection=selection,
            hours=_hours(selection, page.day, counts),
            total=sum(counts) if counts is not None else None,
            summary=chart.summary(counts or []),
            camera_list=camera_list,
            most_cameras=MOST_CAMERAS,
            most_days=MOST_DAYS,
            sizes=SIZES,
            qualities=QUALITIES,
            most_downloaded=MOST_FACES,
            is_known=any(selection.source in (str(source), source.device) for source in camera_list.sources),
        )

    async def _count(self, page: Page) -> list[int] | None:
        if page.day is None:
            return None
        if page.is_indexed:
            return await self._context.counts.of_index_day(page.day, PATIENCE_S)
        return await self._context.counts.within(page.shown, page.day, PATIENCE_S)

    async def _devices(self, _request: web.Request) -> web.Response:
        survey = await survey_devices(
            self._album, self._context.counts, self._context.presence, datetime.now(UTC)
        )
        self._context.health.worked()
        live = frozenset(self._settings.live_places)
        return self._pages.html("devices.html", survey=survey, live=live, most_cameras=MOST_CAMERAS)

    async def _face(self, request: web.Request) -> web.Response:
        key = key_in(request)
        item = await self._context.objects.get(str(key))
        newer, older = await self._album.adjacent(key)
        self._context.health.worked()
        return self._pages.html(
            "face.html",
            face=key,
            item=item,
            details=describe(item, key.time, self._settings.retention),
            part=self._context.lookup.note(key, item.metadata),
            newer=newer,
            older=older,
            address=f"{self._settings.store_url.rstrip('/')}/{key}",
            back=day_address(key),
        )

    async def _visit(self, request: web.Request) -> web.Response:
        key = key_in(request)
        whole = await self._visits.whole(key)
        self._context.health.worked()
        if whole is None:
            raise NoSuchObject(str(key))
        adjacent = await self._visits.adjacent(whole.group)
        back = day_address(whole.group.pictures[0].key)
        return self._pages.html("visit.html", whole=whole, group=whole.group, adjacent=adjacent, back=back)

    async def _image(self, request: web.Request) -> web.StreamResponse:
        key = key_in(request)
        item = await self._context.objects.get(str(key))
        self._context.lookup.note(key, item.metadata)  # saves the next page a request
        # Not cached (see `access`): a browser would show it to the next user.
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        if self._access is not None and self._access.has_link(request):
            headers["Cross-Origin-Resource-Policy"] = (
                "cross-origin"  # feed readers show it in their own pages
            )
        # The type comes from the key, so that no object in the bucket is served as a page.
        shown = self._unsealer.opened(key, item) if key.content_type == envelope.CONTENT_TYPE else None
        if shown is not None:
            return web.Response(body=shown.image, content_type=shown.content_type, headers=headers)
        return web.Response(body=item.body, content_type=key.content_type, headers=headers)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        """Redirect to the object itself; the link is made on request, so that it has not expired."""
        key = key_in(request)
        link = await self._context.objects.link(str(key), self._settings.gallery_link_s)
        raise web.HTTPSeeOther(link or f"/image/{key}")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        try:
            with self._context.viewers.joined() as pending:
                return await _stream(request, pending, self._access)
        except TooManyViewers:
            raise web.HTTPServiceUnavailable(text="too many pages are open\n") from None

    async def _static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in ASSETS:
            raise web.HTTPNotFound
        return web.Response(
            body=self._assets[name], content_type=ASSETS[name], headers={"Cache-Control": FOREVER}
        )


def _nothing(_key: FaceKey) -> Part | None:
    return None


def arrival_news(keys: list[FaceKey], recall: Callable[[FaceKey], Part | None] = _nothing) -> str:
    """Return faces as a server-sent event for open pages.

    Args:
        keys: the faces.
        recall: returns a face's part in a visit, or None.
    """
    faces = [
        {
            "id": key.id,
            "key": str(key),
            "source": str(key.source),
            "day": key.time.date().isoformat(),
            "clock": clock(key.time),
            "time": times.rfc3339(key.time),
            **_visit_news(key, recall(key)),
        }
        for key in keys
    ]
    return f"event: faces\ndata: {json.dumps(faces)}\n\n"


def _visit_news(key: FaceKey, part: Part | None) -> dict[str, object]:
    if part is None:
        return {}
    return {**part._asdict(), "began": times.rfc3339(Group.of([Picture(key, part)]).began)}


def status_news(status: StatusChange, reason: str = "") -> str:
    """Return a change of state, with its reason in words, as a server-sent event for open pages."""
    news = {"source": str(status.source), "state": status.state, "reason": reason}
    return f"event: status\ndata: {json.dumps(news)}\n\n"


async def _stream(
    request: web.Request, pending: asyncio.Queue[str | None], access: Access | None
) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=add_safety(headers))
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # the page was closed
        await response.write(b"retry: 2000\n\n")
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    news = await pending.get()
            except TimeoutError:
                news = ":\n\n"
            if news is None or (access is not None and not access.admits(request)):
                break
            await response.write(news.encode())
    return response


def _hours(
    selection: PageSelection, day: date | None, counts: list[int] | None
) -> list[tuple[chart.Bar, str]] | None:
    """Return a day's bars, each with the address of the page with its faces."""
    if day is None or counts is None:
        return None
    return [
        (bar, selection.at(day, before=_hour_end(day, bar.hour)).query or "/") for bar in chart.bars(counts)
    ]


def _hour_end(day: date, hour: int) -> str | None:
    """Return the cursor that an hour ends at; the day's last hour ends with the day."""
    return times.compact(times.midnight(day) + timedelta(hours=hour + 1)) if hour < 23 else None
