"""Cameras that this device had, and has no more."""

import asyncio
import contextlib
from collections.abc import Collection

import structlog

from services.common.errors import Refused
from services.common.mqtt import Broker, Link, LinkDown
from services.common.runtime.metrics import MQTT_LINK_UP
from services.common.wire.message import Message
from services.common.wire.topics import RESERVED_CAMERAS, ROOT, parse_camera_topic

LISTEN_S = 60.0
"""For so long an earlier process's wills may still come."""

_NAME = "local/departed"

log = structlog.get_logger()


def is_removed(message: Message, cameras: Collection[str]) -> bool:
    """Say whether a state is that of a camera that is gone: nobody has it, and it is offline.

    One that another capture of this device has says so itself, as soon as it is there.

    Raises:
        Refused: it is no camera's state.
    """
    camera = parse_camera_topic(message.topic, "status").camera
    return message.payload == b"offline" and camera not in cameras and camera not in RESERVED_CAMERAS


async def forget_removed_cameras(broker: Broker, device: str, cameras: Collection[str]) -> None:
    """Have the broker forget the states of cameras that this device has no more; takes `LISTEN_S`.

    Args:
        broker: the one on this device.
        device: its name.
        cameras: those that it has.
    """
    link = Link(
        _NAME,
        broker,
        identity=f"capture-{device}-departed",
        subscriptions=[f"{ROOT}/{device}/+/status"],
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_S), link:
                await _forget(link, cameras)
    finally:
        MQTT_LINK_UP.remove(_NAME, broker.address)  # nobody is to take it for one that is down


async def _forget(link: Link, cameras: Collection[str]) -> None:
    async for delivery in link:
        delivery.acknowledge()
        with contextlib.suppress(Refused, LinkDown):
            if is_removed(delivery.message, cameras):
                topic = delivery.message.topic
                link.publish(Message(topic=topic, qos=1, retain=True))
                log.info("capture.camera_departed", camera=topic.split("/")[2])
