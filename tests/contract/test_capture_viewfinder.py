import asyncio
import base64
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from services.capture import viewfinder
from services.capture.encoder import JpegEncoder
from services.capture.stream.picture import JpegPicture, Picture, YuvPicture
from services.capture.viewfinder import Viewfinder
from services.common.images import structure
from services.common.images.jpeg import with_orientation
from services.common.runtime.access import Guard
from services.common.runtime.http import listening
from services.common.wire.scope import read_mask
from services.up.brokers import free_port
from tests.capture_rig import CaptureProcess
from tests.storing import jpeg
from tests.support import MosquittoServer, eventually

TOKEN = "sixteen letters!"  # noqa: S105 - of no door
Client = TestClient[Any, Any]


@pytest.fixture
def finder() -> Iterator[Viewfinder]:
    with ThreadPoolExecutor(1) as threads:
        yield Viewfinder(JpegEncoder("front", 85, threads))


@asynccontextmanager
async def looking(
    finder: Viewfinder, guard: Guard | None = None, *, is_loopback: bool = True
) -> AsyncIterator[Client]:
    app = web.Application()
    app.add_routes(viewfinder.routes({"front": finder}, guard, is_loopback=is_loopback))
    async with TestClient(TestServer(app)) as client:
        yield client


def show(finder: Viewfinder, picture: Picture) -> None:
    finder.latest.put(picture, time.monotonic())


async def status(client: Client, path: str, headers: Mapping[str, str] | None = None) -> int:
    async with client.get(path, headers=headers) as answer:
        return answer.status


async def test_a_still_is_the_newest_picture_as_the_camera_made_it(finder: Viewfinder) -> None:
    async with looking(finder) as client:
        for number in range(3):
            show(finder, JpegPicture(jpeg(number)))
        async with client.get("/live/front.jpg") as answer:
            assert await answer.read() == jpeg(2)
            assert answer.content_type == "image/jpeg"
            assert answer.headers["Cache-Control"] == "no-store"


async def test_a_decoded_picture_is_encoded_for_a_viewer(finder: Viewfinder) -> None:
    planes = [np.full(shape, 128, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))]
    async with looking(finder) as client:
        show(finder, YuvPicture(*planes))
        async with client.get("/live/front.jpg") as answer:
            info = structure.inspect(await answer.read())
    assert (info.width, info.height) == (64, 48)


@pytest.mark.parametrize("turn", range(1, 9))
async def test_what_is_never_looked_at_is_black_in_the_live_picture_however_the_camera_is_turned(
    turn: int,
) -> None:
    """A white picture whose upright left third is masked."""
    white = np.full((96, 96, 3), 255, np.uint8)
    picture = JpegPicture(with_orientation(simplejpeg.encode_jpeg(white, quality=95, colorspace="BGR"), turn))
    with ThreadPoolExecutor(1) as threads:
        finder = Viewfinder(JpegEncoder("front", 95, threads, read_mask("0,0,0.3333,0,0.3333,1,0,1")))
        async with looking(finder) as client:
            show(finder, picture)
            async with client.get("/live/front.jpg") as answer:
                shown = await answer.read()
    upright = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR)  # turns it as a browser does
    assert upright is not None
    assert np.asarray(upright)[:, :26].max() < 40
    assert np.asarray(upright)[:, 42:].min() > 215


async def test_a_decoded_picture_is_masked_too() -> None:
    planes = [
        np.full(shape, value, np.uint8)
        for shape, value in (((48, 64), 255), ((24, 32), 128), ((24, 32), 128))
    ]
    with ThreadPoolExecutor(1) as threads:
        finder = Viewfinder(JpegEncoder("front", 95, threads, read_mask("0,0,1,0,1,0.5,0,0.5")))
        async with looking(finder) as client:
            show(finder, YuvPicture(*planes))
            async with client.get("/live/front.jpg") as answer:
                shown = simplejpeg.decode_jpeg(await answer.read(), "BGR")
    assert shown[:18].max() < 40
    assert shown[32:].min() > 215


async def test_a_stream_goes_on_with_each_new_picture(finder: Viewfinder) -> None:
    async with looking(finder) as client, client.get("/live/front.mjpeg") as answer:
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=faceferry"
        for number in range(3):
            show(finder, JpegPicture(jpeg(number)))
            head = await answer.content.readuntil(b"\r\n\r\n")
            assert head.startswith(b"--faceferry\r\n")
            found = re.search(rb"Content-Length: (\d+)", head)
            assert found is not None
            assert await answer.content.readexactly(int(found[1]) + 2) == jpeg(number) + b"\r\n"


async def test_a_picture_that_is_old_is_not_shown_as_new(
    finder: Viewfinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewfinder, "FRESH_S", 0.0)
    monkeypatch.setattr(viewfinder, "TIMEOUT_S", 0.05)
    show(finder, JpegPicture(jpeg()))
    async with looking(finder) as client:
        assert await status(client, "/live/front.jpg") == 503
        asking = asyncio.create_task(status(client, "/live/front.jpg"))
        while not asking.done():
            show(finder, JpegPicture(jpeg(1)))
            await asyncio.sleep(0.005)
        assert asking.result() == 200


async def test_an_unknown_camera_is_not_found_and_too_many_viewers_are_told(
    finder: Viewfinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewfinder, "MAX_VIEWERS", 1)
    async with looking(finder) as client:
        assert await status(client, "/live/back.jpg") == 404
        async with client.get("/live/front.mjpeg"):
            assert await status(client, "/live/front.mjpeg") == 503


async def test_viewers_at_a_dead_camera_are_let_go_when_they_go(finder: Viewfinder) -> None:
    # aiohttp's own test server cancels handlers whose client has gone; ours, as services have it, does not.
    app = web.Application()
    app.add_routes(viewfinder.routes({"dead": finder}, None, is_loopback=True))
    async with listening(app, "127.0.0.1", 0, "PORT") as port, ClientSession() as session:
        url = f"http://127.0.0.1:{port}/live/dead.mjpeg"
        for _ in range(viewfinder.MAX_VIEWERS):
            answer = await session.get(url)
            assert answer.status == 200
            answer.close()
        async with asyncio.timeout(30):
            while await status_of(session, url) != 200:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)


async def status_of(session: ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status


async def test_a_viewer_that_takes_nothing_is_sent_away(
    finder: Viewfinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewfinder, "MAX_VIEWERS", 1)
    monkeypatch.setattr(viewfinder, "TIMEOUT_S", 0.2)
    large = JpegPicture(jpeg() + bytes(4 * 1024 * 1024))
    async with looking(finder) as client:
        assert client.port is not None
        with socket.create_connection(("127.0.0.1", client.port)) as line:
            line.sendall(b"GET /live/front.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(10):
                while await status(client, "/live/front.mjpeg") != 503:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                while await status(client, "/live/front.mjpeg") != 200:
                    show(finder, JpegPicture(large.data))
                    await asyncio.sleep(0.05)


async def test_a_viewer_whose_machine_vanishes_is_missed_within_half_a_minute(finder: Viewfinder) -> None:
    async with looking(finder) as client, client.get("/live/front.mjpeg"):
        (due_s,) = [due_s for port, due_s in kernel_questions() if port == client.port]
        assert due_s <= 15


def kernel_questions() -> list[tuple[int, float]]:
    """Each connection's own port, and in how many seconds the kernel asks for the other end; proc(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        (int(row[1].partition(":")[2], 16), int(row[5].removeprefix("02:"), 16) / 100)
        for row in rows
        if row[5].startswith("02:")
    ]


async def test_without_a_token_only_this_machine_sees_anything(finder: Viewfinder) -> None:
    show(finder, JpegPicture(jpeg()))
    async with looking(finder, is_loopback=False) as client:
        for path in ("/live", "/live/front.jpg", "/live/front.mjpeg"):
            assert await status(client, path) == 403
    async with looking(finder) as client:
        assert await status(client, "/live/front.jpg", {"Host": "evil.example"}) == 421
        assert await status(client, "/live/front.jpg", {"Host": "localhost:1"}) == 200


@pytest.mark.parametrize("is_loopback", [True, False])
async def test_with_a_token_it_is_asked_for_everywhere(finder: Viewfinder, is_loopback: bool) -> None:
    show(finder, JpegPicture(jpeg()))
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    wrong = base64.b64encode(b"me:" + TOKEN[1:].encode()).decode()
    async with looking(finder, Guard(TOKEN), is_loopback=is_loopback) as client:
        for path in ("/live", "/live/front.jpg"):
            for header in ("", "Basic", f"Basic {wrong}", "Basic %%%", "Bearer x", f"Bearer {basic}"):
                assert await status(client, path, {"Authorization": header}) == 401
            for header in (f"Basic {basic}", f"Bearer {TOKEN}"):
                assert await status(client, path, {"Authorization": header}) == 200


async def test_capture_shows_what_its_camera_sees_without_any_broker(
    tmp_path: Path, broker: MosquittoServer
) -> None:
    broker.kill()
    port = free_port()
    capture = CaptureProcess(tmp_path, broker.url, "front=test://?size=320x240&fps=10", http_port=port)
    try:
        found: list[bytes] = []

        async def ask() -> None:
            import aiohttp  # noqa: PLC0415

            async with aiohttp.ClientSession() as session:
                while not found:
                    try:
                        async with session.get(f"http://127.0.0.1:{port}/live/front.jpg") as answer:
                            if answer.status == 200:
                                found.append(await answer.read())
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.1)

        asking = asyncio.create_task(ask())
        await eventually(lambda: found, 20)
        await asking
        info = structure.inspect(found[0])
        assert (info.width, info.height) == (320, 240)
    finally:
        capture.kill()
