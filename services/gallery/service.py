"""How the C library keeps memory that is free again."""

import asyncio
import contextlib
import ctypes
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web

from services.common.erasure.entries import Entry
from services.common.erasure.ledger import Following
from services.common.errors import Refused
from services.common.mqtt import Broker, Link, any_ready, readiness_notes
from services.common.runtime import http
from services.common.runtime.http import listening
from services.common.runtime.http_connections import MOST_CONNECTIONS
from services.common.runtime.metrics import Drops
from services.common.storage.backends import open_store
from services.common.storage.objects import WholeStore
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire.message import Message
from services.common.wire.receipts import decode_receipt
from services.common.wire.topics import ROOT, is_name
from services.gallery.arrivals import Arrivals
from services.gallery.counts import Counts
from services.gallery.day import DayMap
from services.gallery.download import Downloads
from services.gallery.erase_pages import ErasePages
from services.gallery.erasing import Erasing
from services.gallery.gate import Door, gate
from services.gallery.keys import Keys
from services.gallery.live import Live
from services.gallery.metrics import REFUSED
from services.gallery.neighbours import Neighbours
from services.gallery.pages import Assets, Pages
from services.gallery.presence import Presence
from services.gallery.reading import Looks
from services.gallery.roll import Crowd
from services.gallery.settings import GallerySettings
from services.gallery.site import Sight, Site, arrival_news, status_news
from services.gallery.viewers import Viewers
from services.gallery.visits import Visits

_M_TRIM_THRESHOLD = -1
_MOST_KEPT_BYTES = 128 * 1024


def give_back_what_is_free() -> None:
    """Have memory that is free go back to the system, as far as the C library (glibc) can do that.

    glibc begins with giving back what lies free beyond 128 KiB, and raises that each time that something
    larger is freed. Pages and images are larger; so a gallery that is looked at kept 8 MB more after some
    thousand pages than after the first, in steps that look like a leak. Saying the number ends the raising.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)


ANNOUNCE_EVERY_S = 1.0
LAPSE_EVERY_S = 1.0
FOLLOW_EVERY_S = 10.0

log = structlog.get_logger()
_drops = Drops(REFUSED, "gallery.message_refused")


async def serve(settings: GallerySettings) -> None:
    """Show what is stored until cancelled.

    Raises:
        SetupError: a port that is taken, or certificates that cannot be used.
    """
    subscriptions = [f"{ROOT}/+/stored", f"{ROOT}/+/+/status"]
    links = [
        Link("cloud", broker, identity="gallery", subscriptions=subscriptions)
        for broker in Broker.cloud(settings)
    ]
    looks = Looks()
    checks = {"cloud": any_ready(links), "store": looks.why_not_ready}
    async with (
        open_store(settings) as objects,
        http.serve(settings.http_host, settings.http_port, checks, notes=readiness_notes(links)),
    ):
        viewers = Viewers(settings.gallery_max_viewers)
        lookup = VisitLookup(objects)
        crowd = Crowd(objects, lookup)
        counts = Counts(objects, crowd.counts)
        erasing = make_erasing(settings, objects)
        sight = Sight(objects, looks, Presence(), viewers, counts, lookup, crowd, erasing)
        arrivals = Arrivals(
            objects,
            lambda faces: viewers.tell(arrival_news(faces, lookup.recall)),
            visits=Visits(objects, lookup),
        )
        app = make_app(settings, sight)
        most_connections = MOST_CONNECTIONS + settings.gallery_max_viewers  # each of these has one for good
        async with listening(
            app, settings.gallery_host, settings.gallery_port, "FACEFERRY_GALLERY_PORT", most_connections
        ) as port:
            log.info("gallery.listening", address=f"http://{settings.gallery_host}:{port}/")
            try:
                async with AsyncExitStack() as stack:
                    for link in links:
                        await stack.enter_async_context(link)
                    tasks = await stack.enter_async_context(asyncio.TaskGroup())
                    tasks.create_task(arrivals.run(ANNOUNCE_EVERY_S), name="gallery.arrivals")
                    tasks.create_task(watch(sight), name="gallery.watch")
                    if erasing is not None:
                        tasks.create_task(erasing.run(sight.forget), name="gallery.erase")
                    if (following := make_following(settings, objects, erasing)) is not None:
                        forgetting = following.run(FOLLOW_EVERY_S, partial(forget_all, sight))
                        tasks.create_task(forgetting, name="gallery.follow")
                    for link in links:
                        tasks.create_task(listen(link, sight, arrivals), name="gallery.listen")
            finally:
                viewers.dismiss()
                await sight.counts.close()


def make_app(settings: GallerySettings, sight: Sight) -> web.Application:
    """Return the application: the gate, and the pages behind it."""
    token = settings.gallery_token.get_secret_value() if settings.gallery_token else None
    door = Door(token, settings.gallery_feed_link_s) if token else None
    assets = Assets()
    pages = Pages(assets, is_guarded=door is not None, may_erase=sight.erasing is not None)
    app = gate(door, pages.ask_for_token)
    Site(settings, sight, assets, pages, door).add_to(app)
    live_token = settings.live_token.get_secret_value() if settings.live_token else None
    Live(sight, pages, Neighbours(settings.live_places, live_token)).add_to(app)
    DayMap(sight, pages).add_to(app)
    Downloads(sight, Keys(settings.identities)).add_to(app)
    if sight.erasing is not None:
        ErasePages(sight, sight.erasing, pages).add_to(app)
    return app


def make_erasing(settings: GallerySettings, store: WholeStore) -> Erasing | None:
    """Return what erases from pages, or None where nobody may."""
    return Erasing(store, *settings.erasing) if settings.erasing is not None else None


def make_following(settings: GallerySettings, store: WholeStore, erasing: Erasing | None) -> Following | None:
    """Return what hears of erasures, whoever orders them, or None where their key is not known here.

    Raises:
        SetupError: it is none.
    """
    verify = erasing.verify if erasing is not None else settings.erase_verifier()
    return Following(store, verify) if verify is not None else None


def forget_all(sight: Sight, orders: list[Entry]) -> None:
    """Forget what was erased."""
    for order in orders:
        sight.forget(order)


async def watch(sight: Sight) -> None:
    """Tell open pages of devices that have fallen silent."""
    while True:
        await asyncio.sleep(LAPSE_EVERY_S)
        for status in sight.presence.lapse(time.monotonic()):
            sight.viewers.tell(status_news(status, sight.presence.reason(status.source)))


async def listen(link: Link, sight: Sight, arrivals: Arrivals) -> None:
    """Follow what the broker says of stored faces and of the cameras."""
    async for delivery in link:
        delivery.acknowledge()
        try:
            _take(delivery.message, sight, arrivals)
        except Refused as refusal:
            topic = delivery.message.topic[:200]
            _drops.count(refusal.reason, topic=topic, detail=refusal.detail)


def _take(message: Message, sight: Sight, arrivals: Arrivals) -> None:
    if message.topic.endswith("/status"):
        status = sight.presence.note(message, datetime.now(UTC), time.monotonic())
        if status is not None:
            sight.viewers.tell(status_news(status, sight.presence.reason(status.source)))
    elif len(sight.viewers):
        arrivals.note(_device(message.topic), decode_receipt(message).ids)


def _device(topic: str) -> str:
    """Return the device of a `stored` topic.

    Raises:
        Refused: `bad_topic`.
    """
    match topic.split("/"):
        case [root, device, "stored"] if root == ROOT and is_name(device):
            return device
    raise Refused("bad_topic", topic[:200])
