"""Whose session is whose: client ids, wills, and connections that die without a word; a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from services.common.mqtt import Broker, Link
from services.common.mqtt import link as mqtt_link
from services.common.mqtt import session as mqtt_session
from services.common.wire.message import Message
from tests.custody.proxy import Proxy
from tests.support import MosquittoServer, eventually

STATUS = "link/status"


def status(payload: bytes) -> Message:
    return Message(topic=STATUS, payload=payload, qos=1, retain=True)


@asynccontextmanager
async def device(url: str) -> AsyncIterator[Link]:
    """A link with a will that says `online` whenever it is up, and stays when its broker cannot be had."""
    link = Link(
        "device",
        Broker(url),
        identity="forward-porch",
        will=status(b"offline"),
        on_up=lambda: link.publish(status(b"online")),
    )
    async with link:
        yield link


class Watcher:
    """Hears every change of the status."""

    def __init__(self, url: str) -> None:
        self._link = Link("watcher", Broker(url), identity="watcher", subscriptions=[STATUS])
        self.said: list[bytes] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watcher"]:
        async with self._link, asyncio.TaskGroup() as tasks:
            await self._link.wait_up()
            listening = tasks.create_task(self._listen())
            yield self
            listening.cancel()

    async def _listen(self) -> None:
        async for delivery in self._link:
            delivery.acknowledge()
            self.said.append(delivery.message.payload)


async def retained(url: str) -> bytes:
    """The retained state that a new subscriber gets."""
    async with (
        Link("late", Broker(url), identity="late", subscriptions=[STATUS]) as link,
        asyncio.timeout(30),
    ):
        return (await anext(link)).message.payload


def client_id(link: Link) -> str:
    return link._connection.identifier if link._connection is not None and link.is_up else ""


async def test_all_connections_of_a_link_have_one_client_id(broker: MosquittoServer) -> None:
    async with Proxy(broker.port) as proxy, device(f"mqtt://127.0.0.1:{proxy.port}") as link:
        await link.wait_up()
        first = client_id(link)
        assert first.startswith("forward-porch-")
        proxy.cut()
        await eventually(lambda: not link.is_up)
        await link.wait_up()
        assert client_id(link) == first


async def test_two_links_of_one_identity_leave_each_other_alone(broker: MosquittoServer) -> None:
    """forward has a link to the local and one to the cloud broker, and the two may be one."""
    async with device(broker.url) as one, device(broker.url) as other:
        await one.wait_up()
        await other.wait_up()
        assert client_id(one) != client_id(other)
        await asyncio.sleep(1.0)
        assert one.is_up
        assert other.is_up


async def test_a_connection_that_died_without_a_word_speaks_its_will_before_the_next_says_anything(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "KEEP_ALIVE_S", 2)
    async with (
        Watcher(broker.url).watching() as watcher,
        Proxy(broker.port) as proxy,
        device(f"mqtt://127.0.0.1:{proxy.port}") as link,
    ):
        await eventually(lambda: watcher.said == [b"online"])
        proxy.strand()
        await eventually(lambda: not link.is_up)
        await link.wait_up()
        await asyncio.sleep(4 * mqtt_session.KEEP_ALIVE_S)  # the broker waits one and a half times as long
        assert watcher.said == [b"online", b"offline", b"online"]
        assert await retained(broker.url) == b"online"
        assert link.is_up


async def test_the_will_of_a_process_that_died_without_a_word_is_taken_back(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut: the next process has another id, and the old will comes behind its first word."""
    monkeypatch.setattr(mqtt_session, "KEEP_ALIVE_S", 2)
    monkeypatch.setattr(mqtt_link, "OLD_WILL_S", 6)
    async with Watcher(broker.url).watching() as watcher, Proxy(broker.port) as proxy:
        async with device(f"mqtt://127.0.0.1:{proxy.port}") as before:
            await eventually(lambda: watcher.said == [b"online"])
            proxy.strand()
            await eventually(lambda: not before.is_up)
        async with device(broker.url) as now:
            await now.wait_up()
            await eventually(lambda: watcher.said == [b"online", b"online", b"offline", b"online"], 15)
            assert await retained(broker.url) == b"online"


async def test_two_with_one_client_id_part_instead_of_taking_turns(broker: MosquittoServer) -> None:
    """A copy of a running machine has its process's id too."""
    async with device(broker.url) as one, device(broker.url) as copy:
        copy._client_id.value = one._client_id.value
        await eventually(lambda: one.is_up and copy.is_up and client_id(one) != client_id(copy))
        await asyncio.sleep(1.0)
        assert one.is_up
        assert copy.is_up


async def test_a_broker_s_word_that_another_has_the_client_id_is_taken_at_once() -> None:
    """Mosquitto 2.0 only closes; others say what the protocol has for it."""
    ids = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(1000)
        ids.append(connect[connect.index(b"forward-porch-") :][:22])
        writer.write(bytes([0x20, 3, 0, 0, 0]))
        if len(ids) == 1:
            writer.write(bytes([0xE0, 1, 0x8E]))
        await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with structlog.testing.capture_logs() as logs:
        async with (
            server,
            Link(
                "link",
                Broker(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"),
                identity="forward-porch",
            ) as link,
        ):
            await eventually(lambda: len(ids) == 2 and link.is_up)
    assert ids[0] != ids[1]
    downs = [entry["error"] for entry in logs if entry["event"] == "mqtt.link_down"]
    assert downs == ["the broker ended it: Session taken over"]
