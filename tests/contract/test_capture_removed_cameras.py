"""Cameras that a device had and has no more, at a real broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from services.capture import removed_cameras
from services.common.mqtt import Broker, Link
from services.common.wire.message import Message
from tests.support import MosquittoServer


@pytest.fixture
async def listener(broker: MosquittoServer) -> AsyncIterator[Link]:
    """Somebody who says how cameras are."""
    async with Link("local", Broker(broker.url), identity="x", subscriptions=[]) as link:
        await link.wait_up()
        yield link


async def kept(broker: MosquittoServer) -> dict[str, bytes]:
    """What the broker keeps of cameras."""
    found = {}
    async with Link("look", Broker(broker.url), identity="y", subscriptions=["faceferry/#"]) as link:
        try:
            async with asyncio.timeout(0.5):
                async for delivery in link:
                    found[delivery.topic.split("/")[2]] = delivery.message.payload
        except TimeoutError:
            return found
    raise AssertionError


async def test_the_broker_forgets_cameras_that_are_gone_and_those_alone(
    broker: MosquittoServer, listener: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removed_cameras, "LISTEN_S", 1.5)
    states = {"front": b"offline", "gone": b"offline", "elsewhere": b"online", "forward": b"offline"}
    for camera, state in states.items():
        listener.publish(Message(topic=f"faceferry/porch/{camera}/status", payload=state, qos=1, retain=True))
    looking = asyncio.create_task(
        removed_cameras.forget_removed_cameras(Broker(broker.url), "porch", {"front"})
    )
    await asyncio.sleep(0.7)
    # The will of a process that was killed comes late.
    listener.publish(Message(topic="faceferry/porch/late/status", payload=b"offline", qos=1, retain=True))
    await looking
    assert await kept(broker) == {name: states[name] for name in ("front", "elsewhere", "forward")}
    told = {"link": "local/departed", "broker": Broker(broker.url).address}
    assert REGISTRY.get_sample_value("faceferry_mqtt_link_up", told) is None
