"""Brokers that are of no use: each is left for another, or used as far as it can be, and said."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import structlog

from services.common.mqtt import Broker, Link, LinkDown, PacketTooLarge
from services.common.mqtt import in_flight as mqtt_in_flight
from services.common.mqtt.failover import Failover
from services.common.wire.message import Message
from services.up.brokers import free_port
from tests.false_broker import FalseBroker, false_broker, goodbye, number, text
from tests.support import MosquittoServer, eventually

TOPIC = "faceferry/porch/front/face"
WILL = Message(topic="faceferry/porch/forward/status", payload=b"offline", qos=1, retain=True)
PACKET_SIZE, RETAIN, QOS, SHARED, REFERENCE, REASON = 0x27, 0x25, 0x24, 0x2A, 0x1C, 0x1F


def names(first: str, others: list[str]) -> str:
    """A name whose own order of these brokers begins with one."""
    return next(
        name
        for name in map("forward-{}".format, range(1_000))
        if Failover(name, [first, *others], 0.5).preferred == 0
    )


class Stage:
    """A link to a false broker and, where there is one, a real one beside it."""

    def __init__(self, link: Link, false: FalseBroker, logs: Sequence[Mapping[str, Any]]) -> None:
        self.link = link
        self.false = false
        self.logs = logs
        self.answered: list[str | None] = []

    def publish(self, size: int = 100, topic: str = TOPIC) -> None:
        self.link.publish(Message(topic=topic, payload=bytes(size), qos=1), self.answered.append)

    async def moved(self, timeout_s: float = 20.0) -> float:
        """Wait until the other broker is used, and carries; return after how many seconds."""
        began_s = time.monotonic()
        await eventually(lambda: self.link.is_up and self.link.address != self.false.address, timeout_s)
        self.answered.clear()
        self.publish()
        await eventually(lambda: self.answered, 5)
        return time.monotonic() - began_s

    @property
    def downs(self) -> list[str]:
        return [entry["error"] for entry in self.logs if entry["event"] == "mqtt.link_down"]


@asynccontextmanager
async def stage(other: MosquittoServer | None = None, **behaviour: object) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        false = await stack.enter_async_context(false_broker(**behaviour))
        brokers = [Broker(false.url)] + ([Broker(other.url)] if other else [])
        name = names(false.address, [each.address for each in brokers[1:]])
        logs = stack.enter_context(structlog.testing.capture_logs())
        link = Link("cloud", brokers, identity=name, subscriptions=["$share/store/a"], will=WILL)
        await stack.enter_async_context(link)
        yield Stage(link, false, logs)


async def until_up(link: Link) -> None:
    async with asyncio.timeout(10):
        await link.wait_up()


async def test_one_that_acknowledges_nothing_is_left(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_in_flight, "PUBACK_S", 2.0)
    async with stage(broker, answer=lambda _message, _size: None) as on:
        await until_up(on.link)
        on.publish()
        assert await on.moved() < 10.0
    assert on.downs == ["it has acknowledged nothing for 10 s"]
    assert len(on.false.published) == 1 + 1, "a face, and the goodbye"


async def test_alone_it_is_not_ready_until_it_acknowledges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_in_flight, "PUBACK_S", 1.0)
    async with stage(answer=lambda _message, _size: None) as on:
        await until_up(on.link)
        on.publish()
        await eventually(lambda: on.downs, 10)
        await until_up(on.link)
        assert "acknowledged nothing" in (on.link.why_not_ready() or "")
        on.false.answer = lambda _message, _size: 0
        on.publish()
        await eventually(lambda: on.link.why_not_ready() is None, 5)


async def test_a_slow_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not read yet it need not acknowledge."""
    monkeypatch.setattr(mqtt_in_flight, "PUBACK_S", 1.0)
    async with stage(answer=lambda _message, _size: None, answers_pings=False) as on:
        await until_up(on.link)
        on.publish()
        await asyncio.sleep(3.0)
        assert on.link.is_up


@pytest.mark.parametrize("timeout_s", [5.0])
async def test_one_that_closes_before_connack_is_passed_over(
    broker: MosquittoServer, timeout_s: float
) -> None:
    async with stage(broker, refuse=lambda _connect: 0x97) as on:
        assert await on.moved() < timeout_s
    assert on.downs == ["the broker refuses: Quota exceeded"]


async def test_a_service_s_word_that_one_is_of_no_use_is_followed_where_there_is_another(
    broker: MosquittoServer,
) -> None:
    async with stage(broker) as on:
        await until_up(on.link)
        assert on.link.leave("the broker refuses our faces: quota_exceeded")
        assert await on.moved() < 5.0
        assert not on.link.leave("this one too"), "the other has just been left"
    async with stage() as alone:
        await until_up(alone.link)
        assert not alone.link.leave("of no use")


async def test_a_packet_limit_that_is_said_on_the_way_out_is_learnt_at_once() -> None:
    async with stage(answer=lambda _m, size: goodbye(0x95) if size > 30_000 else 0) as on:
        await until_up(on.link)
        on.publish(50_000)
        await eventually(lambda: on.downs, 5)
        await until_up(on.link)
        with pytest.raises(PacketTooLarge):
            on.publish(50_000)
        on.publish(20_000)
        await eventually(lambda: on.answered == [None], 5)
    assert on.downs == ["the broker ended it: Packet too large"]


async def test_one_that_is_not_said_is_learnt_from_connections_that_end() -> None:
    async with stage(answer=lambda _m, size: b"" if size > 30_000 else 0) as on:

        async def send(size: int) -> bool:
            """Send one of this size as soon as it can be; say whether the link takes it."""
            while True:
                try:
                    on.publish(size)
                except LinkDown:
                    await asyncio.sleep(0.05)
                except PacketTooLarge:
                    return False
                else:
                    return True

        for count in range(1, 3):
            assert await send(50_000)
            await eventually(lambda count=count: len(on.false.connects) > count, 10)  # type: ignore[misc]
        await until_up(on.link)
        assert not await send(50_000), "held, to see whether the connection stands without"
        assert await send(20_000)
        await eventually(lambda: on.answered == [None], 5)
        await asyncio.sleep(2.5)
        assert await send(50_000), "it stands: was it that?"
        await eventually(lambda: len(on.false.connects) > 3, 10)
        await until_up(on.link)
        await asyncio.sleep(2.5)
        assert not await send(50_000), "it was"
        assert on.link.is_up


async def test_a_packet_limit_of_nothing_is_said_as_what_it_is(broker: MosquittoServer) -> None:
    async with stage(broker, properties=number(PACKET_SIZE, 0, 4)) as on:
        assert await on.moved() < 5.0
    assert "packets of at most 0 bytes" in on.downs[0]


@pytest.mark.parametrize("code", [0x8B, 0x8E, 0x96, 0x9A, 0x9B])
async def test_each_reason_to_go_is_said_with_its_words(code: int) -> None:
    async with stage(answer=lambda _m, _s: goodbye(code, text(REASON, "as the operator wished"))) as on:
        await until_up(on.link)
        on.publish()
        await eventually(lambda: on.downs, 5)
        assert on.downs[0].startswith("the broker ended it: ")
        assert on.downs[0].endswith(", as the operator wished")
        assert on.link.end_code == code


async def test_another_server_is_used_where_it_is_one_of_ours(broker: MosquittoServer) -> None:
    async with stage(broker) as on:
        on.false.refuse = lambda _connect: 0x9D
        on.false.refusal_properties = text(REFERENCE, f"127.0.0.1:{broker.port}")
        assert await on.moved() < 5.0


async def test_another_server_that_is_none_of_ours_is_not() -> None:
    nobody = free_port()
    async with stage(
        refuse=lambda _connect: 0x9C, refusal_properties=text(REFERENCE, f"127.0.0.1:{nobody}")
    ) as on:
        await eventually(lambda: len(on.false.connects) > 2, 10)
    assert on.downs == [f"the broker refuses: Use another server, 127.0.0.1:{nobody}"]


def has_retained_will(connect: bytes) -> bool:
    return bool(connect[7] & 0x20)


def will_qos(connect: bytes) -> int:
    return (connect[7] >> 3) & 3


async def test_states_are_said_to_one_that_keeps_nothing() -> None:
    async with stage(
        properties=number(RETAIN, 0, 1), refuse=lambda connect: 0x9A if has_retained_will(connect) else 0
    ) as on:
        await until_up(on.link)
        on.link.publish(Message(topic=WILL.topic, payload=b"online", qos=1, retain=True))
        await eventually(lambda: on.false.published, 5)
        assert not on.false.published[0].retain
        assert len(on.false.connects) == 2
        assert on.link.why_not_ready() is None
    lacks = [entry["lacks"] for entry in on.logs if entry["event"] == "mqtt.broker_lacks"]
    assert lacks == ["no retained messages: states are known once they are said"]


async def test_faces_go_to_one_that_knows_no_qos_1() -> None:
    async with stage(
        properties=number(QOS, 0, 1),
        refuse=lambda connect: 0x9B if will_qos(connect) else 0,
        suback=lambda _t: 0,
    ) as on:
        await until_up(on.link)
        on.publish()
        await eventually(lambda: on.answered == [None], 5)
        await eventually(lambda: on.false.published, 5)
        assert on.false.published[0].qos == 0
        assert len(on.false.connects) == 2


@pytest.mark.parametrize("is_said", [True, False])
async def test_without_shared_subscriptions_a_store_is_alone_and_says_so(is_said: bool) -> None:
    async with stage(
        properties=number(SHARED, 0, 1) if is_said else b"",
        suback=lambda topic: 0x9E if topic.startswith("$share/") else 1,
    ) as on:
        await until_up(on.link)
        assert on.false.subscribed[-1] == "a"
        assert len(on.false.subscribed) == (1 if is_said else 2)
    lacks = [entry["lacks"] for entry in on.logs if entry["event"] == "mqtt.broker_lacks"]
    assert lacks == ["no shared subscriptions: stores do not share the work"]


async def test_each_new_cause_of_an_outage_is_said_once() -> None:
    codes = iter([0x87, 0x87, 0x97, 0x97, 0x87])
    async with stage(refuse=lambda _connect: next(codes, 0x88)) as on:
        await eventually(lambda: len(on.false.connects) > 5, 20)
        assert "Server unavailable" in (on.link.why_not_ready() or "") or await _is_said_soon(on)
    assert on.downs[:2] == ["the broker refuses: Not authorized", "the broker refuses: Quota exceeded"]
    assert on.downs.count("the broker refuses: Quota exceeded") == 1


async def _is_said_soon(on: Stage) -> bool:
    await eventually(lambda: "Server unavailable" in (on.link.why_not_ready() or ""), 10)
    return True
