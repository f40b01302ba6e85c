"""Wires up the gallery: store, brokers, pages, and the tasks behind them."""

import asyncio
import contextlib
import ctypes
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

import structlog
from aiohttp import web

from services.common.erasure.entries import LogEntry
from services.common.erasure.ledger import LedgerFollower
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
from services.gallery.access import Access, guarded_app
from services.gallery.arrivals import Arrivals
from services.gallery.cameras import DayIndex
from services.gallery.counts import Counts
from services.gallery.day import DayMap
from services.gallery.download import Downloads
from services.gallery.erase_pages import ErasePages
from services.gallery.erasing import Erasing
from services.gallery.live import LivePages
from services.gallery.live_client import LiveClient
from services.gallery.metrics import REFUSED
from services.gallery.pages import Assets, Pages
from services.gallery.presence import Presence
from services.gallery.reading import ReadHealth
from services.gallery.settings import GallerySettings
from services.gallery.site import Context, GallerySite, arrival_news, status_news
from services.gallery.unsealing import Unsealer
from services.gallery.viewers import Viewers
from services.gallery.visits import VisitReader

_M_TRIM_THRESHOLD = -1
_MOST_KEPT_BYTES = 128 * 1024


def return_free_memory() -> None:
    """Have free memory returned to the system, where the C library (glibc) can do that.

    glibc returns what is free beyond 128 KiB, and raises that bound each time that a larger block is freed.
    Pages and images are larger, so the gallery kept 8 MB more after some thousand pages than after the first,
    in steps that look like a leak. Setting the bound keeps it fixed.
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
    health = ReadHealth()
    checks = {"cloud": any_ready(links), "store": health.why_not_ready}
    async with (
        open_store(settings) as objects,
        http.serve(settings.http_host, settings.http_port, checks, notes=readiness_notes(links)),
    ):
        viewers = Viewers(settings.gallery_max_viewers)
        lookup = VisitLookup(objects)
        day_index = DayIndex(objects, lookup)
        counts = Counts(objects, day_index.counts)
        erasing = make_erasing(settings, objects)
        context = Context(objects, health, Presence(), viewers, counts, lookup, day_index, erasing)
        arrivals = Arrivals(
            objects,
            lambda faces: viewers.tell(arrival_news(faces, lookup.recall)),
            visits=VisitReader(objects, lookup),
        )
        app = make_app(settings, context)
        most_connections = (
            MOST_CONNECTIONS + settings.gallery_max_viewers
        )  # each open page holds one connection
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
                    tasks.create_task(watch(context), name="gallery.watch")
                    if erasing is not None:
                        tasks.create_task(erasing.run(context.forget), name="gallery.erase")
                    if (following := make_following(settings, objects, erasing)) is not None:
                        forgetting = following.run(FOLLOW_EVERY_S, partial(forget_all, context))
                        tasks.create_task(forgetting, name="gallery.follow")
                    for link in links:
                        tasks.create_task(listen(link, context, arrivals), name="gallery.listen")
            finally:
                viewers.dismiss()
                await context.counts.close()


def make_app(settings: GallerySettings, context: Context) -> web.Application:
    """Return the web application: access control, and the pages behind it."""
    token = settings.gallery_token.get_secret_value() if settings.gallery_token else None
    access = Access(token, settings.gallery_feed_link_s) if token else None
    assets = Assets()
    pages = Pages(assets, is_guarded=access is not None, may_erase=context.erasing is not None)
    app = guarded_app(access, pages.ask_for_token)
    GallerySite(settings, context, assets, pages, access).add_to(app)
    live_token = settings.live_token.get_secret_value() if settings.live_token else None
    LivePages(context, pages, LiveClient(settings.live_places, live_token)).add_to(app)
    DayMap(context, pages).add_to(app)
    Downloads(context, Unsealer(settings.identities)).add_to(app)
    if context.erasing is not None:
        ErasePages(context, context.erasing, pages).add_to(app)
    return app


def make_erasing(settings: GallerySettings, store: WholeStore) -> Erasing | None:
    """Return what erases faces from pages, or None where that is not set up."""
    return Erasing(store, *settings.erasing) if settings.erasing is not None else None


def make_following(
    settings: GallerySettings, store: WholeStore, erasing: Erasing | None
) -> LedgerFollower | None:
    """Return what follows the log of erasures, or None where no public key is set.

    Raises:
        SetupError: the key is not a public key.
    """
    verify = erasing.verify if erasing is not None else settings.erase_verifier()
    return LedgerFollower(store, verify) if verify is not None else None


def forget_all(context: Context, orders: list[LogEntry]) -> None:
    """Drop what is remembered of faces that were erased."""
    for order in orders:
        context.forget(order)


async def watch(context: Context) -> None:
    """Tell open pages of devices whose messages stopped, until cancelled."""
    while True:
        await asyncio.sleep(LAPSE_EVERY_S)
        for status in context.presence.lapse(time.monotonic()):
            context.viewers.tell(status_news(status, context.presence.reason(status.source)))


async def listen(link: Link, context: Context, arrivals: Arrivals) -> None:
    """Take receipts and status messages from a broker, until cancelled."""
    async for delivery in link:
        delivery.acknowledge()
        try:
            _take(delivery.message, context, arrivals)
        except Refused as refusal:
            topic = delivery.message.topic[:200]
            _drops.count(refusal.reason, topic=topic, detail=refusal.detail)


def _take(message: Message, context: Context, arrivals: Arrivals) -> None:
    if message.topic.endswith("/status"):
        status = context.presence.note(message, datetime.now(UTC), time.monotonic())
        if status is not None:
            context.viewers.tell(status_news(status, context.presence.reason(status.source)))
    elif len(context.viewers):
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
