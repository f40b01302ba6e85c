"""What `Link` makes of several brokers, real ones that are killed and frozen."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import structlog
from prometheus_client import REGISTRY

from services.common.mqtt import Broker, Link, any_ready, readiness_notes
from services.common.mqtt import failover as mqtt_failover
from services.common.wire.message import Message
from services.up.brokers import free_port
from tests.support import MosquittoServer, eventually, running_broker

TOPIC = "faceferry/test/several/face"


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[MosquittoServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running_broker(tmp_path)) for _ in range(3)]


@asynccontextmanager
async def link_to(servers: list[MosquittoServer], name: str = "cloud") -> AsyncIterator[Link]:
    brokers = [Broker(server.url) for server in servers]
    async with Link(name, brokers, identity="forward-porch", subscriptions=[TOPIC]) as link:
        async with asyncio.timeout(20):
            await link.wait_up()
        yield link


def used_by(link: Link, servers: list[MosquittoServer]) -> MosquittoServer:
    return next(server for server in servers if link.address == f"127.0.0.1:{server.port}")


async def moved_from(link: Link, address: str) -> float:
    """Wait until another broker is used; return how many seconds it took."""
    began_s = time.monotonic()
    await eventually(lambda: link.is_up and link.address != address, 40)
    return time.monotonic() - began_s


async def carries(link: Link) -> None:
    """Send something there and get it back."""
    answered: list[str | None] = []
    link.publish(Message(topic=TOPIC, payload=b"x", qos=1), answered.append)
    async with asyncio.timeout(10):
        (await anext(link)).acknowledge()
    await eventually(lambda: answered == [None], 10)


async def test_one_is_used_and_after_its_death_another_within_5_s_and_then_the_last(
    three: list[MosquittoServer],
) -> None:
    async with link_to(three) as link:
        for _ in range(2):
            before = used_by(link, three)
            before.kill()
            assert await moved_from(link, f"127.0.0.1:{before.port}") < 5.0
            await carries(link)
        assert link.why_not_ready() is None


async def test_a_silent_one_is_left_within_20_s(three: list[MosquittoServer]) -> None:
    async with link_to(three) as link:
        before = used_by(link, three)
        os.kill(before.pid, signal.SIGSTOP)
        link.publish(Message(topic=TOPIC, payload=b"x", qos=1), lambda _: None)
        assert await moved_from(link, f"127.0.0.1:{before.port}") < 20.0
        await carries(link)


async def test_one_that_is_back_in_a_moment_is_not_left(three: list[MosquittoServer]) -> None:
    """Each goes on to another for a broker's restart else, and what is under way is sent again twice."""
    async with link_to(three) as link:
        before = used_by(link, three)
        link._up_s -= 3_600.0
        before.kill()
        before.start()
        await eventually(lambda: not link.is_up)
        await link.wait_up()
        assert used_by(link, three) is before


async def test_after_a_while_it_comes_home_and_what_is_under_way_is_answered_first(
    three: list[MosquittoServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_failover, "FAILBACK_AFTER_S", 2.0)
    monkeypatch.setattr(mqtt_failover, "FIRST_REST_S", 0.5)
    drained: list[str] = []

    async def drain() -> None:
        drained.append(link.address)
        assert link.is_up

    brokers = [Broker(server.url) for server in three]
    with structlog.testing.capture_logs() as logs:
        async with Link("cloud", brokers, identity="forward-porch", drain=drain) as link:
            async with asyncio.timeout(20):
                await link.wait_up()
            home = used_by(link, three)
            home.kill()
            await moved_from(link, f"127.0.0.1:{home.port}")
            away = link.address
            await asyncio.sleep(4.0)
            assert link.address == away, "no link goes to a broker that is not there"
            home.start()
            await eventually(lambda: link.is_up and used_by(link, three) is home, 20)
    assert drained == [away]
    moves = [entry for entry in logs if entry["event"] == "mqtt.link_moves"]
    assert moves == [
        {
            "event": "mqtt.link_moves",
            "link": "cloud",
            "broker": away,
            "to": f"127.0.0.1:{home.port}",
            "log_level": "info",
        }
    ]


async def test_readiness_log_and_metrics_name_each_broker(three: list[MosquittoServer]) -> None:
    for server in three[1:]:
        server.kill()
    addresses = [f"127.0.0.1:{server.port}" for server in three]
    async with link_to(three, "several") as link:
        up = [
            REGISTRY.get_sample_value("faceferry_mqtt_link_up", {"link": "several", "broker": each})
            for each in addresses
        ]
        assert up == [1.0, 0.0, 0.0]
        three[0].kill()
        await eventually(
            lambda: (
                all(f"{each}: " in (link.why_not_ready() or "") for each in addresses)
                and "tried yet" not in (link.why_not_ready() or "")
            ),
            20,
        )


async def test_who_listens_on_all_is_ready_with_one_and_tells_of_each() -> None:
    broken = Link("cloud", Broker(f"mqtt://127.0.0.1:{free_port()}"), identity="a")
    fine = Link("cloud", Broker(f"mqtt://127.0.0.1:{free_port()}"), identity="b")
    assert "; " in str(any_ready([broken, fine])())
    fine.why_not_ready = lambda: None  # type: ignore[method-assign]
    assert any_ready([broken, fine])() is None
    assert [note() is None for note in readiness_notes([broken, fine]).values()] == [False, True]
    assert readiness_notes([fine]) == {}
