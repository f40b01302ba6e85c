"""The pages' addresses, and what each answers."""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from aiohttp import web
from aiohttp.typedefs import Middleware

from services.common.erasure.entries import Entry
from services.common.errors import Refused
from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.objects import NoSuchObject, ObjectStore, StoreUnavailable
from services.common.storage.visit_lookup import VisitLookup
from services.common.storage.visits import Group, Part, Picture
from services.common.wire import envelope, times
from services.gallery import chart
from services.gallery.album import Album, Page
from services.gallery.counts import Counts
from services.gallery.erasing import Erasing
from services.gallery.feeds import Feeds
from services.gallery.gate import Door, add_safety
from services.gallery.keys import Keys
from services.gallery.metrics import ANSWER_SECONDS
from services.gallery.overview import look_round
from services.gallery.pages import ASSETS, Assets, Pages, clock, day_address
from services.gallery.portrait import describe
from services.gallery.presence import Presence, Status
from services.gallery.reading import Looks
from services.gallery.roll import MOST_CAMERAS, MOST_DAYS, Crowd, joined, roll_of
from services.gallery.selection import QUALITIES, SIZES, Selection
from services.gallery.settings import GallerySettings
from services.gallery.sifting import sifted
from services.gallery.steps import steps
from services.gallery.viewers import TooManyViewers, Viewers
from services.gallery.visits import Visits
from services.gallery.zipping import MOST_FACES

PATIENCE_S = 0.2
"""For so long may a page wait for its chart."""
HEARTBEAT_S = 15.0
"""A proxy would close a stream on which nothing is said."""
FOREVER = "private, max-age=31536000, immutable"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What the pages look at.

    Attributes:
        objects: the store.
        looks: whether the last look into it went well.
        presence: the devices and cameras.
        viewers: the open pages.
        counts: faces by the hour.
        lookup: to which visits faces belong.
        crowd: the faces of many devices together; without it some devices are looked at.
        erasing: erases, where somebody may.
    """

    objects: ObjectStore
    looks: Looks
    presence: Presence
    viewers: Viewers
    counts: Counts
    lookup: VisitLookup
    crowd: Crowd | None = None
    erasing: Erasing | None = None

    def forget(self, order: Entry) -> None:
        """Forget what was erased."""
        chosen = order.selection
        self.lookup.forget(
            lambda key, part: chosen.takes(key.source, key.id, part.visit if part is not None else None)
        )
        self.counts.forget()


class Site:
    """Answers requests.

    Args:
        settings: the service's.
        sight: what is shown.
        assets: what pages refer to.
        pages: makes them.
        door: lets in who may look; nothing where there is none.
    """

    def __init__(
        self, settings: GallerySettings, sight: Sight, assets: Assets, pages: Pages, door: Door | None
    ) -> None:
        self._settings = settings
        self._sight = sight
        self._assets = assets
        self._pages = pages
        self._door = door
        self._keys = Keys(settings.identities)
        self._album = Album(sight.objects, crowd=sight.crowd)
        self._visits = Visits(sight.objects, sight.lookup)
        self._feeds = Feeds(
            self._album, sight.lookup, self._visits, sight.looks, pages, door, settings.gallery_page_faces
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
        """Answer, or explain in a page why not."""
        try:
            response = await handler(request)
        except StoreUnavailable as error:
            self._sight.looks.failed(error)
            return self._problem(503, "The store cannot be read just now", f"It says: {error.reason}.")
        except (NoSuchObject, web.HTTPNotFound):
            return self._problem(404, "There is nothing here", "No face is stored under this address.")
        except Refused:
            return self._problem(400, "This address makes no sense", "Start again from the newest faces.")
        return response

    def _problem(self, status: int, title: str, detail: str) -> web.Response:
        return self._pages.html("problem.html", status, title=title, detail=detail)

    async def _faces(self, request: web.Request) -> web.Response:
        selection = Selection.read(request.query)
        found = await sifted(self._album, self._sight.lookup, selection, self._settings.gallery_page_faces)
        page = found.page
        self._sight.looks.worked()
        gathered = await self._visits.among(page.faces)
        counts = await self._count(page)
        roll = joined(page.roll, roll_of(self._sight.presence.cameras))
        return self._pages.html(
            "faces.html",
            page=page,
            found=found,
            steps=steps(self._sight.presence) if page.day is None else [],
            gathered=gathered,
            detectors=self._sight.lookup.detectors(page.faces),
            selection=selection,
            hours=_hours(selection, page.day, counts),
            total=sum(counts) if counts is not None else None,
            summary=chart.summary(counts or []),
            roll=roll,
            most_cameras=MOST_CAMERAS,
            most_days=MOST_DAYS,
            sizes=SIZES,
            qualities=QUALITIES,
            most_downloaded=MOST_FACES,
            is_known=any(selection.source in (str(source), source.device) for source in roll.sources),
        )

    async def _count(self, page: Page) -> list[int] | None:
        if page.day is None:
            return None
        if page.is_indexed:
            return await self._sight.counts.of_all(page.day, PATIENCE_S)
        return await self._sight.counts.within(page.shown, page.day, PATIENCE_S)

    async def _devices(self, _request: web.Request) -> web.Response:
        survey = await look_round(self._album, self._sight.counts, self._sight.presence, datetime.now(UTC))
        self._sight.looks.worked()
        live = frozenset(self._settings.live_places)
        return self._pages.html("devices.html", survey=survey, live=live, most_cameras=MOST_CAMERAS)

    async def _face(self, request: web.Request) -> web.Response:
        key = _key(request)
        item = await self._sight.objects.get(str(key))
        newer, older = await self._album.neighbours(key)
        self._sight.looks.worked()
        return self._pages.html(
            "face.html",
            face=key,
            item=item,
            portrait=describe(item, key.time, self._settings.retention),
            part=self._sight.lookup.note(key, item.metadata),
            newer=newer,
            older=older,
            address=f"{self._settings.store_url.rstrip('/')}/{key}",
            back=day_address(key),
        )

    async def _visit(self, request: web.Request) -> web.Response:
        key = _key(request)
        whole = await self._visits.whole(key)
        self._sight.looks.worked()
        if whole is None:
            raise NoSuchObject(str(key))
        beside = await self._visits.beside(whole.group)
        back = day_address(whole.group.pictures[0].key)
        return self._pages.html("visit.html", whole=whole, group=whole.group, beside=beside, back=back)

    async def _image(self, request: web.Request) -> web.StreamResponse:
        key = _key(request)
        item = await self._sight.objects.get(str(key))
        self._sight.lookup.note(key, item.metadata)  # which spares the next page a request
        # As every answer it is not kept (see `gate`): a browser would show it to whoever comes next.
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox"}
        if self._door is not None and self._door.has_link(request):
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # a feed is read in others' pages
        # The type is what the key says: nothing that was written into the bucket becomes a page here.
        shown = self._keys.opened(key, item) if key.content_type == envelope.CONTENT_TYPE else None
        if shown is not None:
            return web.Response(body=shown.image, content_type=shown.content_type, headers=headers)
        return web.Response(body=item.body, content_type=key.content_type, headers=headers)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the object itself; made when it is asked for, so that it is never too old."""
        key = _key(request)
        link = await self._sight.objects.link(str(key), self._settings.gallery_link_s)
        raise web.HTTPSeeOther(link or f"/image/{key}")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        try:
            with self._sight.viewers.joined() as untold:
                return await _stream(request, untold, self._door)
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
    """Return faces as the event that pages are told of them with.

    Args:
        keys: the faces.
        recall: says what a face's part in a visit is, where it has one.
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


def status_news(status: Status, reason: str = "") -> str:
    """Return a change of state, and the reason for it, as the event that pages are told of it with."""
    news = {"source": str(status.source), "state": status.state, "reason": reason}
    return f"event: status\ndata: {json.dumps(news)}\n\n"


async def _stream(
    request: web.Request, untold: asyncio.Queue[str | None], door: Door | None
) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=add_safety(headers))
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # the page was closed
        await response.write(b"retry: 2000\n\n")
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    news = await untold.get()
            except TimeoutError:
                news = ":\n\n"
            if news is None or (door is not None and not door.lets_in(request)):
                break
            await response.write(news.encode())
    return response


def _hours(
    selection: Selection, day: date | None, counts: list[int] | None
) -> list[tuple[chart.Bar, str]] | None:
    """Return a day's bars, each with the address of what it stands for."""
    if day is None or counts is None:
        return None
    return [
        (bar, selection.at(day, before=_hour_end(day, bar.hour)).query or "/") for bar in chart.bars(counts)
    ]


def _hour_end(day: date, hour: int) -> str | None:
    """Return the cursor that an hour ends at; the day's last hour ends with the day."""
    return times.compact(times.midnight(day) + timedelta(hours=hour + 1)) if hour < 23 else None


def _key(request: web.Request) -> FaceKey:
    key = parse_key(request.match_info["key"])
    if key is None:
        raise NoSuchObject(request.path)
    return key
