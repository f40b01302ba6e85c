"""How `Link` reaches a broker where the straight way is barred: WebSockets, a shared port, a proxy."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from prometheus_client import REGISTRY

from services.common.mqtt import Broker, Link
from services.common.mqtt.broker import Proxy
from services.common.mqtt.credentials import chain_expiry_s
from services.common.wire.message import Message
from services.up.brokers import free_port
from tests.custody.proxy import Proxy as PacedProxy
from tests.custody.proxy import Shape
from tests.mqtt_rig import close, downs, server
from tests.support import MosquittoServer, eventually, running_broker

TOPIC = "faceferry/test/ways/face"
SIZES = (0, 1, 100, 125, 126, 127, 20_000, 65_535, 65_536)


def payload(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size))


async def carry(broker: Broker, *sizes: int) -> None:
    """Send messages there and get them back."""
    async with (
        Link("cloud", broker, identity="far", subscriptions=[TOPIC]) as far,
        Link("cloud", broker, identity="near") as near,
    ):
        async with asyncio.timeout(10):
            await far.wait_up()
            await near.wait_up()
        answered: list[str | None] = []
        for size in sizes:
            near.publish(Message(topic=TOPIC, payload=payload(size), qos=1), answered.append)
        async with asyncio.timeout(40):
            for size in sizes:
                delivery = await anext(far)
                assert delivery.message.payload == payload(size)
                delivery.acknowledge()
        await eventually(lambda: len(answered) == len(sizes), 10)
        assert set(answered) == {None}


@asynccontextmanager
async def web_server(
    handle: Callable[[web.Request], Awaitable[web.WebSocketResponse]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A web server that has something at /mqtt; its port."""
    app = web.Application()
    app.router.add_get("/mqtt", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def front(broker: MosquittoServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A web server that passes WebSockets on /mqtt to a broker, as those do that share a port; its port."""

    async def pass_on(request: web.Request) -> web.WebSocketResponse:
        near = web.WebSocketResponse(protocols=["mqtt"], max_msg_size=0)
        await near.prepare(request)
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)

        async def back() -> None:
            while data := await reader.read(100_000):
                await near.ping()  # some do, and it is to be answered in the midst of everything
                await near.send_bytes(data)

        backwards = asyncio.create_task(back())
        try:
            async for message in near:
                assert message.type is WSMsgType.BINARY
                writer.write(message.data)
                await writer.drain()
        finally:
            backwards.cancel()
            await close(writer)
        return near

    async with web_server(pass_on, tls) as port:
        yield port


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


async def test_a_broker_s_own_websockets(tmp_path: Path) -> None:
    port = free_port()
    listener = f"listener {port} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"
    with running_broker(tmp_path, listener):
        await carry(Broker(f"ws://127.0.0.1:{port}"), *SIZES)


async def test_websockets_through_a_web_server_that_speaks_tls(
    broker: MosquittoServer, tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    """What fills every buffer on the way is sent in parts."""
    async with front(broker, tls) as port:
        url = f"wss://127.0.0.1:{port}/mqtt"
        await carry(Broker(url, ca_file=certificate[1]), *SIZES, 3_000_000, 5, 3_000_000, 20_000)


async def test_the_certificate_of_a_web_server_in_between_is_the_one_that_is_watched(
    broker: MosquittoServer, tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    async with front(broker, tls) as port:
        way = Broker(f"wss://127.0.0.1:{port}/mqtt", ca_file=certificate[1])
        async with Link("through", way, identity="watcher") as link:
            await link.wait_up()
            metric, labels = (
                "faceferry_certificate_expiry_timestamp_seconds",
                {"link": "through", "broker": f"127.0.0.1:{port}"},
            )
            seen_s = REGISTRY.get_sample_value(metric, {**labels, "certificate": "broker"})
            assert seen_s == chain_expiry_s(certificate[1].read_bytes())


async def test_websockets_without_tls_in_parts(broker: MosquittoServer) -> None:
    async with front(broker) as port:
        await carry(Broker(f"ws://127.0.0.1:{port}/mqtt"), 3_000_000, 20_000, 3_000_000, 5)


async def test_an_address_where_no_websocket_is_spoken_is_named(broker: MosquittoServer) -> None:
    async with front(broker) as port, downs(port, "ws", "/elsewhere") as reasons:
        await eventually(lambda: reasons, 5)
    assert reasons[0].startswith("no WebSocket is spoken at /elsewhere: ")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 \xff\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nsec-websocket-accept\r\n\r\n",
        b"\r\n" * 3,
        b"",
    ],
)
async def test_rubbish_in_its_place_is_one_too(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        await writer.drain()

    async with server(serve) as port, downs(port, "ws") as reasons:
        await eventually(lambda: reasons, 5)
    assert reasons[0].startswith("no WebSocket is spoken at /mqtt: ")


async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drop: bytes) -> None:
    """Send a little each second while the client is connected."""
    end = asyncio.create_task(reader.read(1))
    while not end.done():
        writer.write(drop)
        await asyncio.wait([end], timeout=1)


async def test_a_server_that_answers_a_byte_a_second_for_ever_is_left() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        await dribble(reader, writer, b"X")

    began_s = time.monotonic()
    async with server(serve) as port, downs(port, "ws") as reasons:
        await eventually(lambda: reasons, 15)
    assert time.monotonic() - began_s < 12


async def test_the_protocol_is_named_where_a_port_is_shared(
    tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    tls.set_alpn_protocols(["h2", "x-amzn-mqtt-ca"])
    chosen: list[str | None] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await close(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with downs(port, "mqtts", ca_file=certificate[1], alpn=("x-amzn-mqtt-ca",)):
            await eventually(lambda: chosen, 5)
    assert chosen[0] == "x-amzn-mqtt-ca"


@asynccontextmanager
async def http_proxy(letting_in: Callable[[str], bytes]) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTP proxy: its port, and what it was asked. It answers as it is told, and connects after a 200."""
    asked: list[str] = []
    pumping: list[asyncio.Task[None]] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(65_536):
                    sink.write(data)
                    await sink.drain()
        finally:
            await close(sink)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(request)
        answer = letting_in(request)
        writer.write(answer)
        if b" 200 " in answer:
            host, port = request.split()[1].rsplit(":", 1)
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            pumps = [
                asyncio.create_task(pump(reader, far_writer)),
                asyncio.create_task(pump(far_reader, writer)),
            ]
            pumping.extend(pumps)
            await asyncio.wait(pumps)

    async with server(serve) as port:
        yield port, asked
        await eventually(lambda: all(pump.done() for pump in pumping), 5)


def for_user(request: str) -> bytes:
    wanted = base64.b64encode(b"user:p:ss").decode()
    if f"Proxy-Authorization: Basic {wanted}" in request:
        return b"HTTP/1.1 200 Connection established\r\n\r\n"
    return b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"


async def test_through_a_proxy_that_asks_who_we_are(broker: MosquittoServer) -> None:
    async with http_proxy(for_user) as (port, asked):
        await carry(Broker(broker.url, proxy=Proxy("127.0.0.1", port, "user", "p:ss")), *SIZES)
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{broker.port} HTTP/1.")


async def test_websockets_with_tls_through_a_proxy(
    broker: MosquittoServer, tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    async with front(broker, tls) as port, http_proxy(for_user) as (proxy_port, _):
        proxy = Proxy("127.0.0.1", proxy_port, "user", "p:ss")
        await carry(Broker(f"wss://127.0.0.1:{port}", ca_file=certificate[1], proxy=proxy), 20_000)


async def test_a_proxy_that_refuses_is_named_with_its_words() -> None:
    async with (
        http_proxy(for_user) as (port, _),
        downs(1883, proxy=Proxy("127.0.0.1", port, "user", "wrong")) as reasons,
    ):
        await eventually(lambda: reasons, 5)
    assert f"the proxy 127.0.0.1:{port}: " in reasons[0]
    assert "407 Proxy Authentication Required" in reasons[0]
    assert "wrong" not in reasons[0]


async def test_a_proxy_that_is_none_is_named() -> None:
    async with (
        http_proxy(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as (port, _),
        downs(1883, proxy=Proxy("127.0.0.1", port)) as reasons,
    ):
        await eventually(lambda: reasons, 5)
    assert f"the proxy 127.0.0.1:{port}: " in reasons[0]


async def test_a_proxy_that_answers_a_byte_a_second_for_ever_is_left() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await dribble(reader, writer, b"X: y\r\n")

    began_s = time.monotonic()
    async with server(serve) as port, downs(1883, proxy=Proxy("127.0.0.1", port)) as reasons:
        await eventually(lambda: reasons, 15)
    assert time.monotonic() - began_s < 12


@pytest.mark.parametrize(("host", "asked"), [("bücher.example", "xn--bcher-kva.example"), ("[::1]", "[::1]")])
async def test_a_proxy_is_asked_for_any_host(host: str, asked: str) -> None:
    async with http_proxy(lambda _: b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as (port, requests):
        broker = Broker(f"mqtt://{host}:8883", proxy=Proxy("127.0.0.1", port))
        async with Link("cloud", broker, identity="far"):
            await eventually(lambda: requests, 5)
    assert requests[0].startswith(f"CONNECT {asked}:8883 HTTP/1.")


CONNACK = bytes([0x20, 3, 0, 0, 0])
SUBACK = bytes([0x90, 4, 0, 1, 0, 1])
PUBLISH = bytes([0x30, 4, 0, 1, 0x61, 0])


@asynccontextmanager
async def websocket(act: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that has let a client in with a subscription, and then does as it is told; its address."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["mqtt"])
        await socket.prepare(request)
        await socket.receive()
        await socket.send_bytes(CONNACK)
        await socket.receive()
        await act(socket)
        return socket

    async with web_server(handle) as port:
        yield f"ws://127.0.0.1:{port}"


async def test_what_came_before_the_end_is_read_and_the_end_is_seen() -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(SUBACK + PUBLISH)
        await socket.close()
        await asyncio.sleep(1)  # the connection below it stays for a while

    async with (
        websocket(act) as url,
        Link("cloud", Broker(url), identity="far", subscriptions=["a"]) as link,
    ):
        async with asyncio.timeout(5):
            assert (await anext(link)).message.topic == "a"
        await eventually(lambda: not link.is_up, 2)


async def test_text_ends_it() -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_str("no MQTT")
        await asyncio.sleep(1)

    async with websocket(act) as url, downs(int(url.rpartition(":")[2]), "ws") as reasons:
        await eventually(lambda: reasons, 5)
    assert "text" in reasons[0]


async def test_a_large_frame_that_takes_its_time_is_waited_for(broker: MosquittoServer) -> None:
    """It is seen when it is whole, and no packet comes meanwhile."""
    async with front(broker) as port, PacedProxy(port) as slow:
        slow.shape = Shape(bytes_per_s=40_000, delay_s=0.01)
        url = f"ws://127.0.0.1:{slow.port}"
        async with (
            Link("cloud", Broker(url), identity="far", subscriptions=[TOPIC]) as far,
            Link("cloud", Broker(broker.url), identity="near") as near,
        ):
            async with asyncio.timeout(10):
                await far.wait_up()
                await near.wait_up()
            near.publish(Message(topic=TOPIC, payload=payload(400_000), qos=1))
            async with asyncio.timeout(30):
                coming = asyncio.ensure_future(anext(far))
                while not coming.done():
                    assert far.is_up
                    far.why_not_ready()  # a readiness check
                    await asyncio.wait([coming], timeout=0.2)
            assert coming.result().message.payload == payload(400_000)
