"""What `Link` promises, against a real broker."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from services.common.mqtt import (
    MAX_WAITING,
    NO_SUBSCRIBERS,
    Broker,
    Delivery,
    Link,
    LinkDown,
    PacketTooLarge,
    packet_reader,
)
from services.common.mqtt import session as mqtt_session
from services.common.runtime.metrics import MQTT_DROPPED
from services.common.wire.message import Message
from services.up.brokers import MAX_PACKET_BYTES
from tests.custody.proxy import Mode, Proxy, Shape
from tests.support import MosquittoServer, eventually, running_broker

TOPIC = "link/test"
CONNACK = bytes([0x20, 3, 0, 0, 0])


def link_to(
    url: str, name: str = "contract", *, receive_maximum: int = 64, will: Message | None = None
) -> Link:
    return Link(
        name, Broker(url), identity=name, subscriptions=[TOPIC], receive_maximum=receive_maximum, will=will
    )


@asynccontextmanager
async def pair(broker: MosquittoServer, receive_maximum: int = 64) -> AsyncIterator[tuple[Link, Link]]:
    """A publisher and a subscriber, both connected."""
    publisher = Link("publisher", Broker(broker.url), identity="publisher")
    async with publisher, link_to(broker.url, receive_maximum=receive_maximum) as subscriber:
        await publisher.wait_up()
        await subscriber.wait_up()
        yield publisher, subscriber


def send(link: Link, *payloads: bytes, qos: int = 1) -> None:
    for payload in payloads:
        link.publish(Message(topic=TOPIC, payload=payload, qos=qos))


async def received(link: Link, timeout_s: float = 10.0) -> Delivery:
    async with asyncio.timeout(timeout_s):
        return await anext(link)


async def nothing_comes(link: Link) -> bool:
    try:
        await received(link, timeout_s=0.5)
    except TimeoutError:
        return True
    return False


async def restart(broker: MosquittoServer, *links: Link) -> None:
    broker.kill()
    for link in links:
        await eventually(lambda: not link.is_up)  # noqa: B023
    broker.start()
    for link in links:
        await link.wait_up()


async def test_all_that_a_message_carries_arrives(broker: MosquittoServer) -> None:
    message = Message(
        topic=TOPIC,
        payload=bytes(range(256)),
        qos=1,
        content_type="image/jpeg",
        attributes=(("id", "1"), ("twice", "a"), ("twice", "b")),
        response_topic="answer/here",
        correlation=b"\x00\xff",
    )
    async with pair(broker) as (publisher, subscriber):
        publisher.publish(message)
        assert (await received(subscriber)).message == message


async def test_after_a_restart_of_the_broker_it_is_back_and_subscribed(broker: MosquittoServer) -> None:
    async with pair(broker) as (publisher, subscriber):
        await restart(broker, publisher, subscriber)
        send(publisher, b"again")
        assert (await received(subscriber)).message.payload == b"again"


async def test_more_is_subscribed_to_and_less_again_on_a_connection_that_is_up(
    broker: MosquittoServer,
) -> None:
    async with pair(broker) as (publisher, subscriber):
        assert await subscriber.subscribe(["more/+", "$share/group/most"]) == {"more/+", "$share/group/most"}
        for topic in ("more/1", "most"):
            publisher.publish(Message(topic=topic, payload=b"more", qos=1))
            assert (await received(subscriber)).topic == topic
        subscriber.unsubscribe(["more/+"])
        await subscriber.subscribe([TOPIC])  # it is answered in its turn
        publisher.publish(Message(topic="more/1", payload=b"gone", qos=1))
        assert await nothing_comes(subscriber)
        await restart(broker, publisher, subscriber)
        publisher.publish(Message(topic="most", payload=b"gone", qos=1))
        assert await nothing_comes(subscriber)


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
async def test_a_link_that_rests_reads_all_that_comes_and_notices_the_end(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(packet_reader, "TURN_S", 0.0)
    monkeypatch.setattr(packet_reader, "CHUNK_BYTES", 4_096)
    key, cert = certificate
    tls = f"certfile {cert}\nkeyfile {key}\n" + ("user root\n" if os.geteuid() == 0 else "")
    rests: list[float] = []

    def rest_s() -> float:
        rests.append(0.01)
        return rests[-1]

    with running_broker(tmp_path, tls if scheme == "mqtts" else "") as server:
        broker = Broker(f"{scheme}://127.0.0.1:{server.port}", ca_file=cert if scheme == "mqtts" else None)
        publisher = Link("publisher", broker, identity="publisher")
        resting = Link("resting", broker, identity="resting", subscriptions=[TOPIC], rest_s=rest_s)
        async with publisher, resting:
            await publisher.wait_up()
            await resting.wait_up()
            for _ in range(2):
                rests.clear()
                sent = [bytes([number]) * 3_000 for number in range(50)]
                send(publisher, *sent)
                assert [(await received(resting)).message.payload for _ in sent] == sent
                assert rests
                await restart(server, publisher, resting)


async def test_without_a_connection_nothing_can_be_subscribed_to(broker: MosquittoServer) -> None:
    link = Link("publisher", Broker(broker.url), identity="publisher")
    with pytest.raises(LinkDown):
        await link.subscribe([TOPIC])
    link.unsubscribe([TOPIC])


async def test_beyond_the_receive_maximum_nothing_comes_until_one_is_acknowledged(
    broker: MosquittoServer,
) -> None:
    async with pair(broker, receive_maximum=2) as (publisher, subscriber):
        send(publisher, b"1", b"2", b"3", b"4")
        first, second = await received(subscriber), await received(subscriber)
        assert await nothing_comes(subscriber)
        second.acknowledge()
        assert (await received(subscriber)).message.payload == b"3"
        assert await nothing_comes(subscriber)
        first.acknowledge()
        assert (await received(subscriber)).message.payload == b"4"


async def test_an_acknowledgement_of_an_earlier_connection_hits_no_message_of_this_one(
    broker: MosquittoServer,
) -> None:
    async with pair(broker, receive_maximum=1) as (publisher, subscriber):
        send(publisher, b"old")
        old = await received(subscriber)
        await restart(broker, publisher, subscriber)
        send(publisher, b"new", b"next")
        new = await received(subscriber)
        assert new._packet_id == old._packet_id
        old.acknowledge()
        assert await nothing_comes(subscriber)
        new.acknowledge()
        assert (await received(subscriber)).message.payload == b"next"


async def test_what_no_service_reads_at_qos_0_is_dropped_and_counted(broker: MosquittoServer) -> None:
    count = MAX_WAITING + 300
    dropped = MQTT_DROPPED.labels("contract", "queue_full")
    before = dropped._value.get()
    async with pair(broker) as (publisher, subscriber):
        for number in range(count):
            send(publisher, str(number).encode(), qos=0)
        await eventually(lambda: dropped._value.get() - before == count - MAX_WAITING)
        kept = [await received(subscriber) for _ in range(MAX_WAITING)]
        assert [int(each.message.payload) for each in kept] == list(range(MAX_WAITING))
        assert await nothing_comes(subscriber)


WILL = Message(topic=TOPIC, payload=b"gone", qos=1)
_HOLDER = f"""
import asyncio, sys
from services.common.wire.message import Message
from services.common.mqtt import Broker, Link

async def main():
    will = Message(topic={TOPIC!r}, payload=b"gone", qos=1)
    async with Link("holder", Broker(sys.argv[1]), identity="holder", will=will) as link:
        await link.wait_up()
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_will_of_a_killed_process_is_published_by_the_broker(broker: MosquittoServer) -> None:
    async with pair(broker) as (_, subscriber):
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HOLDER, broker.url, stdout=PIPE, stderr=DEVNULL
        )
        assert holder.stdout is not None
        while (line := await holder.stdout.readline()) != b"up\n":
            assert line
        holder.kill()
        await holder.wait()
        assert (await received(subscriber)).message.payload == b"gone"


async def test_a_link_that_is_closed_publishes_its_will_itself_and_once(broker: MosquittoServer) -> None:
    async with pair(broker) as (_, subscriber):
        async with link_to(broker.url, "holder", will=WILL) as holder:
            await holder.wait_up()
        assert (await received(subscriber)).message.payload == b"gone"
        assert await nothing_comes(subscriber)


async def test_a_packet_beyond_the_broker_s_limit_is_not_sent(broker: MosquittoServer) -> None:
    """Mosquitto tells its `max_packet_size` in CONNACK, and closes the connection on what is larger."""
    async with pair(broker) as (publisher, subscriber):
        assert publisher.max_packet_bytes == MAX_PACKET_BYTES
        with pytest.raises(PacketTooLarge):
            send(publisher, bytes(MAX_PACKET_BYTES))
        send(publisher, bytes(MAX_PACKET_BYTES - 1_000))
        assert len((await received(subscriber)).message.payload) == MAX_PACKET_BYTES - 1_000
        assert publisher.is_up


async def test_without_a_connection_publishing_says_so() -> None:
    async with link_to("mqtt://127.0.0.1:1") as link:
        with pytest.raises(LinkDown):
            send(link, b"x")


async def test_a_link_that_goes_nowhere_is_noticed_and_replaced(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets vanish and nothing is ever reset: only the keep-alive, here of 2 s, can tell."""
    monkeypatch.setattr(mqtt_session, "KEEP_ALIVE_S", 2)
    async with Proxy(broker.port) as proxy, link_to(f"mqtt://127.0.0.1:{proxy.port}") as link:
        await link.wait_up()
        proxy.mode = Mode.SWALLOW
        await eventually(lambda: not link.is_up, 3 * mqtt_session.KEEP_ALIVE_S + 2)
        proxy.mode = Mode.PASS
        async with asyncio.timeout(30):
            await link.wait_up()


def sockets_to(port: int) -> list[object]:
    """Connections that this process has open to a port."""
    return [each for each in psutil.Process().net_connections() if each.raddr and each.raddr.port == port]


@pytest.mark.parametrize("delay_ms", [*range(0, 12, 1), 15, 20, 30, 50])
async def test_cancelled_while_it_connects_it_leaves_no_socket(
    broker: MosquittoServer, delay_ms: int
) -> None:
    async with link_to(broker.url):
        await asyncio.sleep(delay_ms / 1000)
    await eventually(lambda: not sockets_to(broker.port))


@pytest.mark.parametrize("answer", [b"", CONNACK[:2], CONNACK])
async def test_cancelled_while_it_waits_for_an_answer_it_leaves_no_socket(answer: bytes) -> None:
    """The peer takes the connection and falls silent: before CONNACK, within it, before SUBACK."""
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        asked.set()
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with link_to(f"mqtt://127.0.0.1:{port}"):
            await asked.wait()
            await asyncio.sleep(0.1)
            assert sockets_to(port)
        await eventually(lambda: not sockets_to(port))
        assert not [task for task in asyncio.all_tasks() if "mqtt" in task.get_name()]


async def test_what_is_not_wanted_is_acknowledged_and_never_seen(broker: MosquittoServer) -> None:
    asked: list[tuple[str, int]] = []

    def wants(topic: str, size_bytes: int) -> bool:
        asked.append((topic, size_bytes))
        return size_bytes > 5_000

    subscriber = Link(
        "contract", Broker(broker.url), identity="sub", subscriptions=[TOPIC], receive_maximum=2, wants=wants
    )
    async with link_to(broker.url) as publisher, subscriber:
        await publisher.wait_up()
        await subscriber.wait_up()
        send(publisher, *[b"small"] * 50, bytes(5_000))
        assert (await received(subscriber)).message.payload == bytes(5_000)
    assert len(asked) == 51
    assert {topic for topic, _ in asked} == {TOPIC}


async def test_a_mark_that_paho_objects_to_costs_no_connection(broker: MosquittoServer) -> None:
    """MQTT 5 allows U+FEFF (1.5.4); paho would drop the connection over it, for ever if it is retained."""
    marked = Message(topic=TOPIC, payload=b"1", qos=1, retain=True, attributes=(("box", "\ufeff1"),))
    async with Link("publisher", Broker(broker.url), identity="publisher") as publisher:
        await publisher.wait_up()
        publisher.publish(marked)
        async with link_to(broker.url) as subscriber:
            assert (await received(subscriber)).message.attributes == marked.attributes
            assert subscriber.is_up


async def test_a_broker_that_dies_while_much_is_sent_leaves_no_error_in_the_loop(
    broker: MosquittoServer,
) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with pair(broker) as (publisher, subscriber):
        for _ in range(5):
            # Twice in a row, and it looks for a moment as if it were the size.
            with contextlib.suppress(PacketTooLarge):
                send(publisher, *[bytes(100_000)] * 20)
            broker.kill()
            with contextlib.suppress(LinkDown, PacketTooLarge):
                while True:  # into a socket that the broker has already left
                    send(publisher, bytes(100_000))
                    await asyncio.sleep(0)
            await restart(broker, publisher, subscriber)
    assert errors == []


async def test_a_broker_that_answers_nothing_is_not_ready_and_left_and_found_again(
    broker: MosquittoServer,
) -> None:
    async with Link("local", Broker(broker.url), identity="t", subscriptions=["x"]) as link:
        await link.wait_up()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            started_s = time.monotonic()
            await eventually(link.why_not_ready, 5)
            assert "has not answered" in str(link.why_not_ready())
            await eventually(lambda: not link.is_up, 10)
            assert time.monotonic() - started_s < 10
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        await eventually(lambda: link.why_not_ready() is None, 5)


async def test_a_question_behind_a_large_face_on_a_slow_link_breaks_nothing(broker: MosquittoServer) -> None:
    """Half a minute's worth of bytes lies before any answer; that the link takes them is a sign of life."""
    async with Proxy(broker.port) as slow:
        slow.shape = Shape(bytes_per_s=40_000, delay_s=0.05)
        url = f"mqtt://127.0.0.1:{slow.port}"
        async with Link("cloud", Broker(url), identity="t") as link:
            await link.wait_up()
            answered: list[str | None] = []
            link.publish(Message(topic="x", payload=bytes(700_000), qos=1), answered.append)
            await eventually(lambda: answered or not link.is_up, 40)
            assert answered == [NO_SUBSCRIBERS]


async def test_an_idle_link_without_readiness_checks_sends_nothing(broker: MosquittoServer) -> None:
    taken = 0

    def count(data: bytes) -> None:
        nonlocal taken
        taken += len(data)

    async with (
        Proxy(broker.port, count) as proxy,
        Link("cloud", Broker(f"mqtt://127.0.0.1:{proxy.port}"), identity="t") as link,
    ):
        await link.wait_up()
        await asyncio.sleep(1)
        before = taken
        await asyncio.sleep(5)
        assert taken == before
