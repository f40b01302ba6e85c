"""Connections that ask for nothing, ask by halves or take nothing are ended: raw sockets, real servers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from services.common.runtime import http, http_connections
from services.common.runtime.http import listening
from services.gallery.service import make_app
from services.up.brokers import free_port
from tests.seeing import TOKEN, gallery_process, settings_for, sight_of
from tests.support import MosquittoServer, eventually

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"
BODY = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths."""
    monkeypatch.setattr(http_connections, "WHOLE_REQUEST_S", 1.0)
    monkeypatch.setattr(http_connections, "TAKE_S", 1.0)
    monkeypatch.setattr(http_connections, "IDLE_S", 3.0)
    monkeypatch.setattr(http_connections, "LOOK_EVERY_S", 0.1)


@asynccontextmanager
async def serving(most: int = 16) -> AsyncIterator[int]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(64_000_000))

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(2.5)
        return web.Response(text="slow\n")

    async def login(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/large", large)
    app.router.add_get("/slow", slow)
    app.router.add_post("/login", login)
    async with listening(app, "127.0.0.1", 0, "PORT", most) as port:
        yield port


@asynccontextmanager
async def calling(
    port: int, first: bytes
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ends_after_s(reader: asyncio.StreamReader, limit_s: float = 30.0) -> float:
    """Return when the other side ended the connection."""
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65_536):
                pass
    return time.monotonic() - began_s


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


def closed(reason: str) -> float:
    return REGISTRY.get_sample_value("faceferry_http_closed_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize(
    "sent", [b"", b"G", HALF, BODY + b"Content-Length: 400\r\n\r\ntoken=", WHOLE + HALF],
    ids=["nothing", "a letter", "half a head", "half a body", "one and a half"],
)  # fmt: skip
async def test_what_is_half_sent_is_not_waited_for(sent: bytes) -> None:
    before = closed("half_sent")
    async with serving() as port, calling(port, sent) as (reader, _writer):
        assert 0.5 < await ends_after_s(reader) < 2.5
    assert closed("half_sent") == before + 1


@pytest.mark.parametrize(
    "head", [HALF, BODY + b"Transfer-Encoding: chunked\r\n\r\n"], ids=["head", "chunked body"]
)
async def test_trickling_does_not_help(head: bytes) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"1\r\na\r\n" if b"chunked" in head else b"a")
            await asyncio.sleep(0.1)

    async with serving() as port, calling(port, head) as (reader, writer):
        trickling = asyncio.create_task(trickle(writer))
        assert await ends_after_s(reader) < 2.5
        trickling.cancel()


async def test_an_idle_connection_is_kept_longer_and_not_for_ever() -> None:
    async with serving() as port, calling(port, WHOLE) as (reader, writer):
        assert await answer(reader) == b"ok\n"
        await asyncio.sleep(1.8)
        writer.write(WHOLE)
        assert await answer(reader) == b"ok\n"
        assert 2.5 < await ends_after_s(reader) < 5


async def test_an_answer_may_take_its_time_and_a_body_is_read() -> None:
    async with serving() as port:
        async with calling(port, WHOLE.replace(b"/healthz", b"/slow")) as (reader, _writer):
            assert await answer(reader) == b"slow\n"
        async with calling(port, BODY + b"Content-Length: 7\r\n\r\ntok") as (reader, writer):
            await asyncio.sleep(0.3)
            writer.write(b"en=x")
            assert await answer(reader) == b"7"


async def test_who_takes_nothing_is_ended_and_who_takes_it_slowly_is_not() -> None:
    async with serving() as port:
        before = closed("not_taken")
        async with calling(port, WHOLE.replace(b"/healthz", b"/large")):
            await eventually(lambda: closed("not_taken") == before + 1, 5)
        async with calling(port, WHOLE.replace(b"/healthz", b"/large")) as (reader, _writer):
            taken, began_s = 0, time.monotonic()
            while time.monotonic() - began_s < 3:
                taken += len(await reader.read(1_000_000))
                await asyncio.sleep(0.05)
            assert closed("not_taken") == before + 1
            assert taken > 1_000_000


async def test_those_who_keep_it_waiting_make_room_for_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "WHOLE_REQUEST_S", 60.0)
    async with serving(most=8) as port, contextlib.AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(calling(port, HALF)) for _ in range(30)]
        await asyncio.sleep(0.2)
        async with calling(port, WHOLE) as (reader, _writer):
            assert await answer(reader) == b"ok\n"
        still = 0
        for reader, _writer in waiting:
            with contextlib.suppress(TimeoutError):
                await ends_after_s(reader, 0.05)
                continue
            still += 1
        assert still <= 8


async def test_when_all_are_served_no_more_are_taken() -> None:
    async with serving(most=4) as port, contextlib.AsyncExitStack() as stack:
        slow = WHOLE.replace(b"/healthz", b"/slow")
        asked = [await stack.enter_async_context(calling(port, slow)) for _ in range(4)]
        await asyncio.sleep(0.3)
        async with calling(port, WHOLE) as (reader, _writer):
            assert await ends_after_s(reader) < 0.5
        for reader, _writer in asked:
            assert await answer(reader) == b"slow\n"


async def test_a_stream_of_events_goes_on_and_half_a_sign_in_does_not(tmp_path: Path) -> None:
    async with sight_of(tmp_path) as sight:
        app = make_app(settings_for(tmp_path, gallery_token=TOKEN), sight)
        async with listening(app, "127.0.0.1", 0, "PORT") as port:
            bearer = f"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
            async with calling(port, bearer) as (reader, _writer):
                await reader.readuntil(b"retry: 2000")
                with pytest.raises(TimeoutError):
                    await ends_after_s(reader, 4)
            async with calling(port, BODY + b"Content-Length: 90\r\n\r\ntoken=") as (reader, _writer):
                assert await ends_after_s(reader) < 2.5


async def test_health_waits_for_no_client_either() -> None:
    port = free_port()
    async with http.serve("127.0.0.1", port, {}), calling(port, HALF) as (reader, _writer):
        assert await ends_after_s(reader) < 2.5


async def test_the_service_itself_waits_ten_seconds(tmp_path: Path, broker: MosquittoServer) -> None:
    async with gallery_process(tmp_path, broker.url) as (gallery, port):
        for each in (port, gallery.http_port):
            async with calling(each, HALF) as (reader, _writer):
                assert 9 < await ends_after_s(reader) < 13
        assert gallery.metric("faceferry_http_closed_total") == 2
