"""The store's ear at its brokers: what is let in and when, and the group in which replicas share the faces.

A broker gives each face to one member of a group, and not every broker asks its rules whether somebody may
be a member: Mosquitto does not. A member that may not read has its share dropped. So the group's name is one
that the replicas know, and no device.
"""

import asyncio
import hmac
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from services.common.errors import Refused
from services.common.mqtt import Broker, Link
from services.common.wire import bare_topics
from services.common.wire.message import Message
from services.store import metrics
from services.store.admission import device_of
from services.store.arrivals import Answers, Arrival
from services.store.bypass import Bypass
from services.store.knocking import TOPIC as KNOCK
from services.store.knocking import Knocking
from services.store.lanes import Lanes, Rates
from services.store.settings import StoreSettings
from services.store.writer import Writer


class Room(Protocol):
    """What the door has to know of the room behind it; see `Waiting`."""

    @property
    def bytes(self) -> int: ...  # noqa: D102

    def would_lose(self, device: str, size_bytes: int) -> bool: ...  # noqa: D102


class Door:
    """Says of each message, by its topic alone and before anything is done for it, whether it may come in.

    What may not is let go: its device hears of no receipt, has it still and sends it again.

    Args:
        settings: the store's.
        room: what is behind it.
        lanes: are told.
    """

    def __init__(self, settings: StoreSettings, room: Room, lanes: Lanes) -> None:
        self._room = room
        self._lanes = lanes
        self._bytes = Rates(settings.store_device_max_bytes_s)
        self._faces = Rates(settings.store_device_max_faces_s)

    def lets_in(self, topic: str, size_bytes: int) -> bool:
        """Let a message in, or count it: its device is over its rate, or over its share of a full room."""
        device, now_s = device_of(topic), time.monotonic()
        if not (self._bytes.has_left(device, now_s) and self._faces.has_left(device, now_s)):
            metrics.FACES.count("over_rate", device=device[:63])
            self._lanes.turned_away(device, now_s)
            return False
        self._bytes.spend(device, size_bytes, now_s)
        self._faces.spend(device, 1, now_s)
        if self._room.would_lose(device, size_bytes):
            metrics.FACES.count("over_share", device=device[:63], waiting_bytes=self._room.bytes)
            self._lanes.turned_away(device, now_s)
            return False
        self._lanes.let_in(device)
        return True

    def has_refused(self, device: str) -> None:
        """Note that something of a device was let in, and then refused: many such are a flood, too."""
        self._lanes.turned_away(device, time.monotonic())


PLAIN = "store"
"""Where the store has no secret, for its broker lets anybody read."""

_DOMAIN = b"faceferry: the group of the store's replicas, 1"


def share(settings: StoreSettings) -> list[str]:
    """Return the store's topic filters as those of a shared subscription.

    Raises:
        OSError: the key's file cannot be read.
    """
    group = _group(settings)
    return [f"$share/{group}/{bare_topics.parse(text).filter}" for text in settings.store_topics]


def derive(secret: bytes) -> str:
    """Return the name that whoever knows the secret knows, and which tells nothing of the secret."""
    return hmac.digest(secret, _DOMAIN, "sha256").hex()


def _group(settings: StoreSettings) -> str:
    if settings.store_group is not None:
        return settings.store_group.get_secret_value()
    if settings.cloud_key_file is not None:
        return derive(_key(settings.cloud_key_file))
    if settings.cloud_mqtt_password is not None:
        return derive(settings.cloud_mqtt_password.get_secret_value().encode())
    return PLAIN


def _key(path: Path) -> bytes:
    """Return a key as it stands in its file, however the lines end that a copy has."""
    return b"".join(path.read_bytes().split())


MOST_AROUND_BYTES = 256 * 1024
"""More than topic and properties of any message take."""
MOST_KNOCK_BYTES = 4_096


class Ear:
    """Listens to one broker, and answers what comes by it by the same one.

    The faces of a device may come by any broker, in turn; where it hears of them is where it has just sent
    them.

    Use it as an async context manager, which keeps the connections.

    Args:
        settings: the store's.
        broker: which one.
        door: says what comes in; that of all brokers.
        lanes: says who is to get past a flood; likewise.

    Attributes:
        link: what faces come by.
    """

    def __init__(self, settings: StoreSettings, broker: Broker, door: Door, lanes: Lanes) -> None:
        self._max_face_bytes = settings.store_max_face_bytes
        self._retention = settings.retention
        self._topics = [bare_topics.parse(text) for text in settings.store_topics]
        self._knocking = Knocking([topic.filter for topic in self._topics], settings.store_knock_s)
        filters = share(settings)
        bypass = Bypass(
            broker, lanes, filters, receive_maximum=settings.store_receive_maximum, lets_in=door.lets_in
        )
        self.link = Link(
            "cloud",
            broker,
            identity="store",
            subscriptions=filters,
            receive_maximum=settings.store_receive_maximum,
            wants=self._wants,
            rest_s=bypass.rest_s,
            on_up=self._knocking.link_up,
            on_down=self._knocking.link_down,
        )
        self._bypass = bypass
        self._door = door
        self._answers = Answers(self._tell)

    async def __aenter__(self) -> Self:
        await self._bypass.link.__aenter__()
        await self.link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.link.__aexit__(kind, error, trace)
        finally:
            await self._bypass.link.__aexit__(kind, error, trace)

    async def listen(self, writer: Writer) -> None:
        """Have each message wait for its turn, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._bypass.run(), name="store.bypass")
            tasks.create_task(self._knocking.run(self.link), name="store.knock")
            for link in (self.link, self._bypass.link):
                tasks.create_task(self._listen(link, writer), name=f"store.listen {link.name}")

    async def _listen(self, link: Link, writer: Writer) -> None:
        """Have each message wait for its turn; one that is larger than any face is refused at once."""
        most_bytes = self._max_face_bytes + MOST_AROUND_BYTES
        async for delivery in link:
            if self._knocking.takes(delivery):
                continue
            arrival = Arrival(
                delivery,
                self._answers,
                self._max_face_bytes,
                self._topics,
                self._door.has_refused,
                retention=self._retention,
            )
            if delivery.size_bytes > most_bytes:
                allowed = f"{delivery.size_bytes} bytes, {self._max_face_bytes} allowed"
                arrival.refused(Refused("too_large", allowed))
            else:
                writer.take(arrival)

    def _wants(self, topic: str, size_bytes: int) -> bool:
        self._knocking.heard()
        if topic == KNOCK:
            return size_bytes < MOST_KNOCK_BYTES
        return not self._bypass.brings(topic) and self._door.lets_in(topic, size_bytes)

    def _tell(self, message: Message) -> None:
        quiet = self._bypass.link
        (quiet if quiet.is_up else self.link).publish(message)
