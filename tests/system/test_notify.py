"""Somebody came: a real forward tells a real receiver, whatever that does."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.wire.topics import Source
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.watching import detect

SECRET = "between-us"  # noqa: S105 - and nobody else
FRONT = Source("porch", "front")


class Receiver:
    """Answers as it is told to, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.delay_s = 0.0
        self.headers: dict[str, str] = {}
        self.heard: list[tuple[dict[str, str], bytes]] = []

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status, headers=self.headers)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.heard]


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    heard = Receiver()
    app = web.Application()
    app.router.add_post("/{any:.*}", heard.hear)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield heard, str(server.make_url("/hook?token=not-to-be-logged"))
    await server.close()


@contextmanager
def forward(
    url: str, local: MosquittoServer, cloud: MosquittoServer, folder: Path, **more: str
) -> Iterator[ServiceProcess]:
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_SPOOL_PATH": str(folder / "spool"),
        "FACEFERRY_KEEP": "visits",
        "FACEFERRY_VISIT_GAP_S": "0.5",
        "FACEFERRY_NOTIFY_URL": url,
        "FACEFERRY_NOTIFY_SECRET": SECRET,
        "FACEFERRY_NOTIFY_PER_MINUTE": "600",
    }
    with ServiceProcess("forward", folder, {**settings, **more}) as process:
        yield process


async def ready(process: ServiceProcess) -> None:
    await eventually(lambda: process.log.count("mqtt.link_up") == 2, 60)


async def test_each_visit_is_told_once_and_signed(
    receiver: tuple[Receiver, str], local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path
) -> None:
    heard, url = receiver
    with forward(url, local, cloud, tmp_path, FACEFERRY_NOTIFY_PICTURE="true") as process:
        async with detect(local) as world:
            await ready(process)
            picture = await world.sees(FRONT)
            await world.sees(FRONT)  # the same visit
            await eventually(lambda: len(heard.heard) == 1)
            await asyncio.sleep(1.5)
            await world.sees(FRONT)
            await eventually(lambda: len(heard.heard) == 2)
        headers, body = heard.heard[0]
        assert base64.b64encode(picture) in body
        signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
        digest = base64.b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
        assert len(set(heard.ids)) == 2
        await eventually(lambda: process.metric("faceferry_notify_sent_total") == 2)


async def test_a_receiver_that_is_away_gets_it_later_and_costs_no_face(
    receiver: tuple[Receiver, str], local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path
) -> None:
    heard, url = receiver
    heard.status = 503
    with forward(url, local, cloud, tmp_path) as process:
        async with detect(local) as world:
            await ready(process)
            await world.sees(FRONT)
            await eventually(lambda: len(heard.heard) >= 2)
            assert process.metric("faceferry_forward_taken_total") == 1
            assert process.metric("faceferry_forward_last_face_timestamp_seconds") > 0
            heard.status = 204
            await eventually(lambda: process.metric("faceferry_notify_sent_total") == 1)
            assert len(set(heard.ids)) == 1
        assert process.log.count("notify.message_waits") == 1
        assert "not-to-be-logged" not in process.log


async def test_a_receiver_that_hangs_holds_up_no_face(
    receiver: tuple[Receiver, str], local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path
) -> None:
    heard, url = receiver
    heard.delay_s = 5.0
    with forward(url, local, cloud, tmp_path) as process:
        async with detect(local) as world:
            await ready(process)
            for number in range(1, 4):
                await world.sees(Source("porch", f"camera-{number}"))
            await eventually(lambda: process.metric("faceferry_forward_taken_total") == 3, 4)
            assert process.metric("faceferry_notify_sent_total") == 0
            assert process.metric("faceferry_notify_waiting") == 3


@pytest.mark.parametrize("status", [307, 404, 410])
async def test_what_is_refused_for_good_is_not_sent_again_nor_elsewhere(
    receiver: tuple[Receiver, str],
    local: MosquittoServer,
    cloud: MosquittoServer,
    tmp_path: Path,
    status: int,
) -> None:
    heard, url = receiver
    heard.status, heard.headers = status, {"Location": url.replace("/hook", "/elsewhere")}
    with forward(url, local, cloud, tmp_path) as process:
        async with detect(local) as world:
            await ready(process)
            await world.sees(FRONT)
            await eventually(lambda: process.metric("faceferry_notify_dropped_total") == 1)
            assert len(heard.heard) == 1
            assert process.metric("faceferry_notify_waiting") == 0


def test_an_address_that_is_none_is_named_and_not_shown(
    local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path
) -> None:
    with forward("smtp://a-secret@example.org", local, cloud, tmp_path) as process:
        assert process.wait() == 2
        assert "FACEFERRY_NOTIFY_URL: an address such as" in process.log
        assert "a-secret" not in process.log
