"""Deletes the retained states of cameras that this device had and has no longer."""

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
"""For so many seconds the last wills of an earlier process may still come."""

_NAME = "local/departed"

log = structlog.get_logger()


def is_removed(message: Message, cameras: Collection[str]) -> bool:
    """Say whether a state is that of a camera that was removed: not one of `cameras`, and offline.

    Another capture of this device may have the camera: it publishes the state again as soon as it connects.

    Raises:
        Refused: the message is not a camera's state.
    """
    camera = parse_camera_topic(message.topic, "status").camera
    return message.payload == b"offline" and camera not in cameras and camera not in RESERVED_CAMERAS


async def forget_removed_cameras(broker: Broker, device: str, cameras: Collection[str]) -> None:
    """Delete the retained states of removed cameras from the broker; takes `LISTEN_S` seconds.

    Args:
        broker: the one on this device.
        device: its name.
        cameras: the names of those that it has.
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
        MQTT_LINK_UP.remove(_NAME, broker.address)  # or it would be shown as a link that is down


async def _forget(link: Link, cameras: Collection[str]) -> None:
    async for delivery in link:
        delivery.acknowledge()
        with contextlib.suppress(Refused, LinkDown):
            if is_removed(delivery.message, cameras):
                topic = delivery.message.topic
                link.publish(Message(topic=topic, qos=1, retain=True))
                log.info("capture.camera_departed", camera=topic.split("/")[2])
