"""Notifications of visits, from what is stored: to a real receiver, with a link into a real bucket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from services.common.mqtt import Broker, Link
from services.common.notify.sender import MOST, NOTIFY_DROPPED, NOTIFY_SENT
from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import Face, encode_face
from services.common.wire.topics import Source
from services.store.admission import Admitted, to_object
from services.store.notifications import notifying
from services.store.settings import StoreSettings
from tests.seeing import pictured, taken, visit_id
from tests.storing import StoreProcess, receipted
from tests.support import MosquittoServer, eventually


class Receiver:
    """Answers as it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.heard: list[bytes] = []

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(await request.read())
        return web.Response(status=self.status)

    @property
    def data(self) -> list[dict[str, object]]:
        return [json.loads(body)["data"] for body in self.heard]


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    heard = Receiver()
    app = web.Application()
    app.router.add_post("/hook", heard.hear)
    async with TestServer(app, host="127.0.0.1") as server:
        yield heard, str(server.make_url("/hook"))


def first(ago_s: float = 1.0, shot: str = "1", number: int = 0) -> Face:
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    return pictured(visit_id(at, number), at, "0.500", shot)


Come = Callable[[Face], Awaitable[None]]


@asynccontextmanager
async def told(
    url: str, store_url: str, is_erased: Callable[[Source, str, str], bool] = lambda *_: False
) -> AsyncIterator[Come]:
    """What stores a face and tells of it, for as long as the context lasts."""
    values = {"store_url": store_url, "cloud_mqtt_url": "mqtt://127.0.0.1:1", "store_notify_url": url}
    settings = StoreSettings.model_validate({**values, "store_notify_per_minute": 600})
    async with (
        open_store(ObjectStoreSettings(store_url=store_url)) as objects,
        notifying(objects, settings, is_erased) as note,
    ):
        await objects.verify()

        async def come(face: Face) -> None:
            item = to_object(face)
            await objects.put(item)
            note(Admitted(face, item, is_bare=False))

        yield come


def dropped(reason: str) -> float:
    return float(NOTIFY_DROPPED.labels(reason)._value.get())


@pytest.mark.usefixtures("bucket")
async def test_each_visit_is_told_of_once_with_a_link_that_needs_no_login(
    receiver: tuple[Receiver, str],
) -> None:
    heard, url = receiver
    face = first()
    async with told(url, "s3://faces/some/prefix") as come:
        await come(face)
        await come(first(shot="2", number=1))
        await come(taken(datetime.now(UTC)))
        await eventually(lambda: heard.heard)
        link = heard.data[0]["url"]
        async with aiohttp.ClientSession() as anybody, anybody.get(URL(str(link), encoded=True)) as answer:
            assert await answer.read() == face.image
        unsigned = str(link).partition("?")[0]
        async with aiohttp.ClientSession() as anybody, anybody.get(unsigned) as answer:
            assert answer.status in (401, 403)
        last = first(number=2)
        await come(last)
        await eventually(lambda: len(heard.heard) == 2)
    assert [data["face"] for data in heard.data] == [face.id, last.id]
    assert not {"picture", "people"} & heard.data[0].keys()


async def test_recordings_and_what_is_long_past_are_no_news(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    heard, url = receiver
    before = dropped("too_old")
    played = first(number=1)
    async with told(url, (tmp_path / "faces").as_uri()) as come:
        await come(first(ago_s=2 * 3600))
        await come(replace(played, extensions={**played.extensions, "flow": "paced"}))
        now = first(number=3)
        await come(now)
        await eventually(lambda: heard.heard)
    assert [data["face"] for data in heard.data] == [now.id]
    assert "url" not in heard.data[0]
    assert dropped("too_old") == before + 1


async def test_what_was_erased_before_it_was_told_of_is_not_told(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    heard, url = receiver
    erased, other = first(), first(number=1)
    before = dropped("erased")
    async with told(url, (tmp_path / "faces").as_uri(), lambda _, face_id, __: face_id == erased.id) as come:
        await come(erased)
        await come(other)
        await eventually(lambda: heard.heard)
    assert [data["face"] for data in heard.data] == [other.id]
    assert dropped("erased") == before + 1


async def test_a_receiver_that_is_away_costs_bounded_memory_and_hears_of_the_last_ones_later(
    receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    heard, url = receiver
    heard.status = 503
    before = dropped("too_many")
    sent = NOTIFY_SENT._value.get()
    visits = [first(number=number) for number in range(3 * MOST)]
    async with told(url, (tmp_path / "faces").as_uri()) as come:
        for face in visits:
            await come(face)
        await eventually(lambda: heard.heard and dropped("too_many") - before == 2 * MOST)
        heard.status = 204
        heard.heard.clear()
        await eventually(lambda: NOTIFY_SENT._value.get() - sent >= MOST, 30)
    # One may have been under way while it gave way to a newer one.
    assert [data["face"] for data in heard.data][-MOST:] == [face.id for face in visits[-MOST:]]


async def test_a_real_store_tells_of_what_it_has_stored(
    receiver: tuple[Receiver, str], broker: MosquittoServer, tmp_path: Path
) -> None:
    heard, url = receiver
    settings = {"FACEFERRY_STORE_NOTIFY_URL": url, "FACEFERRY_STORE_NOTIFY_PICTURE": "true"}
    with StoreProcess(broker.url, (tmp_path / "faces").as_uri(), tmp_path / "log", **settings) as store:
        await store.until_ready()
        topics = ["faceferry/porch/stored"]
        async with Link("cloud", Broker(broker.url), identity="edge", subscriptions=topics) as edge:
            await edge.wait_up()
            face = first()
            edge.publish(encode_face(face))
            await receipted(edge, 1)
            await eventually(lambda: heard.heard)
            edge.publish(encode_face(face))  # it may come twice
            await receipted(edge, 1)
        assert [data["face"] for data in heard.data] == [face.id]
        assert heard.data[0]["picture"]
        assert store.metric("faceferry_notify_sent_total") == 1
        assert store.metric("faceferry_store_last_face_timestamp_seconds") > face.time.timestamp()
        assert url not in (tmp_path / "log").read_text()
        assert store.stop() == 0
