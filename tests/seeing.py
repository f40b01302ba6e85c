"""What the tests of the gallery share: a store full of faces, and the gallery over it."""

import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aiohttp.test_utils import TestClient, TestServer

from services.common.storage.folder import FolderStore
from services.common.storage.keys import day_in
from services.common.storage.objects import ListedObject, WholeStore
from services.common.storage.reverse_listing import reverse_entries
from services.common.storage.visit_lookup import VisitLookup
from services.common.wire import faces, times
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.topics import Source
from services.gallery.cameras import DayIndex
from services.gallery.counts import Counts
from services.gallery.presence import Presence, StatusChange
from services.gallery.reading import ReadHealth
from services.gallery.service import make_app
from services.gallery.settings import GallerySettings
from services.gallery.site import Context
from services.gallery.viewers import Viewers
from services.store.admission import to_object
from services.up.brokers import free_port
from tests.storing import jpeg
from tests.support import ServiceProcess, eventually

TOKEN = "a token of the test's own"  # noqa: S105 - it guards a test's folder
NOON = times.parse_rfc3339("2026-03-14T12:00:00.000000Z")
CAMERAS = (Source("porch", "front"), Source("porch", "yard"), Source("lobby", "desk"))


class ForwardOnly(FolderStore):
    """Lists forward only, as S3 does, a thousand names for each request; counts requests and names.

    Never all of a folder: that is an error.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests = 0
        self.read = 0

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        found = await super().first(folder, count, after=after, before=before)
        self.requests += max(1, -(-len(found) // 1_000))
        self.read += len(found)
        return found

    def reverse_entries(
        self,
        folder: str,
        *,
        before: str = "",
        at_once: int = 64,  # noqa: ARG002 - S3 answers a thousand
    ) -> AsyncIterator[ListedObject]:
        day = day_in(folder)
        assert day is not None
        return reverse_entries(partial(self.first, folder), day, before)

    async def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        self.requests += 1
        async for lot in super().names(folder, after=after, before=before):
            yield lot

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        self.requests += 1
        return await super().folders(folder, after=after, most=most)

    def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        raise AssertionError(f"all of {folder} was listed")


def taken(at: datetime, source: Source = CAMERAS[0], number: int = 0) -> Face:
    """A face out of a frame of that time."""
    known = {"box": "1,2,3,4", "framesize": "640x480", "score": "0.912", "sharpness": "88"}
    return faces.mint(source, at, jpeg(number), "image/jpeg", known)


def visit_id(began: datetime, number: int = 0) -> str:
    """The id of a visit that began then."""
    return f"{times.compact(began)}-{number:016x}"


def pictured(
    visit: str, at: datetime, quality: str = "0.500", shot: str = "1", source: Source = CAMERAS[0]
) -> Face:
    """A picture of a visit, of that time."""
    face = taken(at, source)
    known = {**face.extensions, "visit": visit, "shot": shot, "quality": quality}
    return faces.mint(source, at, face.image, face.content_type, known)


def scattered(count: int, *, days: int = 1, seed: int = 1) -> list[Face]:
    """Faces of three cameras over so many days up to `NOON`'s, oldest first."""
    chance = random.Random(seed)
    first = NOON.replace(hour=0) - timedelta(days=days - 1)
    span_us = days * 24 * 3600 * 1_000_000
    moments = [first + timedelta(microseconds=chance.randrange(span_us)) for _ in range(count)]
    found = [taken(at, chance.choice(CAMERAS), chance.randrange(50)) for at in moments]
    return sorted(found, key=lambda face: face.id)


def fill(root: Path, items: Iterable[Face]) -> None:
    """Put faces into a folder as the store would, without its care for power cuts."""
    for face in items:
        item = to_object(face)
        path = root / item.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.body)
        about = {"content_type": item.content_type, "metadata": dict(item.metadata)}
        path.with_suffix(".json").write_text(json.dumps(about))


def settings_for(root: Path, **others: object) -> GallerySettings:
    """Settings of a gallery over a folder."""
    values = {"store_url": root.as_uri(), "cloud_mqtt_url": "mqtt://127.0.0.1:1", **others}
    return GallerySettings.model_validate(values)


@asynccontextmanager
async def visiting(
    objects: WholeStore, settings: GallerySettings
) -> AsyncIterator[tuple[TestClient, Context]]:  # type: ignore[type-arg]
    """A client of the gallery's pages, and what they look at."""
    async with (
        seen(objects, settings.gallery_max_viewers) as context,
        TestClient(TestServer(make_app(settings, context))) as client,
    ):
        yield client, context
        context.viewers.dismiss()


@asynccontextmanager
async def seen(objects: WholeStore, most_viewers: int = 64) -> AsyncIterator[Context]:
    """What the gallery's pages look at."""
    lookup = VisitLookup(objects)
    day_index = DayIndex(objects, lookup)
    counts = Counts(objects, day_index.counts)
    context = Context(objects, ReadHealth(), Presence(), Viewers(most_viewers), counts, lookup, day_index)
    yield context
    context.viewers.dismiss()
    await context.counts.close()


@asynccontextmanager
async def sight_of(root: Path) -> AsyncIterator[Context]:
    """What the gallery's pages look at, over a folder."""
    with FolderStore(root) as objects:
        async with seen(objects) as context:
            yield context


@asynccontextmanager
async def visiting_folder(root: Path, **others: object) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    """A client of the gallery's pages over a folder."""
    with FolderStore(root) as objects:
        async with visiting(objects, settings_for(root, **others)) as (client, _sight):
            yield client


@asynccontextmanager
async def gallery_process(folder: Path, broker_url: str) -> AsyncIterator[tuple[ServiceProcess, int]]:
    """The real gallery over `folder/faces`, connected, and the port of its pages."""
    port = free_port()
    settings = {
        "FACEFERRY_CLOUD_MQTT_URL": broker_url,
        "FACEFERRY_STORE_URL": (folder / "faces").as_uri(),
        "FACEFERRY_GALLERY_PORT": str(port),
    }
    gallery = ServiceProcess("gallery", folder, settings).start()
    try:
        await eventually(lambda: "mqtt.link_up" in gallery.log, 20)
        yield gallery, port
    finally:
        gallery.kill()


def note(presence: Presence, topic: str, state: bytes) -> StatusChange | None:
    """Have a presence hear a state that says nothing of when it was said."""
    return presence.note(Message(topic=topic, payload=state), datetime.now(UTC), time.monotonic())
