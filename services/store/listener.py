"""Receives faces from one broker: what is accepted, and the group in which replicas share the faces.

A broker gives each face to one member of a shared subscription's group. Not every broker checks its access
rules when a client joins a group: Mosquitto does not, and drops the share of a member that may not read. So
the group has a name that replicas know and devices do not.
"""

import asyncio
import hmac
import time
from pathlib import Path

from services.common.errors import Refused
from services.common.mqtt import Broker, Link
from services.common.wire import bare_topics
from services.common.wire.message import Message
from services.store import metrics
from services.store.admission import device_of
from services.store.face_writer import FaceWriter, Job
from services.store.fair_queue import FairQueue
from services.store.floods import FloodMonitor, RateLimits
from services.store.incoming import IncomingFace, ReceiptBatches
from services.store.knocking import TOPIC as KNOCK
from services.store.knocking import Knocker
from services.store.lanes import Lanes
from services.store.settings import StoreSettings


class DeviceLimits:
    """Decides by a message's topic and size, before any other work, whether it is accepted.

    Two bounds hold for each device: the rates in the settings, and its fair share of the queue when that is
    full. What is over either is counted and dropped: its device gets no receipt, and sends it again.

    Args:
        settings: the rates, in bytes and faces a second.
        queue: where accepted faces wait; it is only read here.
        floods: is told of each decision.
    """

    def __init__(self, settings: StoreSettings, queue: FairQueue[Job], floods: FloodMonitor) -> None:
        self._queue = queue
        self._floods = floods
        self._bytes = RateLimits(settings.store_device_max_bytes_s)
        self._faces = RateLimits(settings.store_device_max_faces_s)

    def allows(self, topic: str, size_bytes: int) -> bool:
        """Say whether a message is accepted; one that is not is counted as `over_rate` or `over_share`."""
        device, now_s = device_of(topic), time.monotonic()
        if not (self._bytes.allows(device, now_s) and self._faces.allows(device, now_s)):
            metrics.FACE_DROPS.count("over_rate", device=device[:63])
            self._floods.note_rejected(device, now_s)
            return False
        self._bytes.spend(device, size_bytes, now_s)
        self._faces.spend(device, 1, now_s)
        if self._queue.would_evict(device, size_bytes):
            metrics.FACE_DROPS.count("over_share", device=device[:63], waiting_bytes=self._queue.bytes)
            self._floods.note_rejected(device, now_s)
            return False
        self._floods.note_accepted(device)
        return True

    def note_refused(self, device: str) -> None:
        """Note that an accepted message of a device turned out to be no face: many of those are a flood."""
        self._floods.note_rejected(device, time.monotonic())


PLAIN_GROUP = "store"
"""The group's name of a store without any secret, on a broker that lets every client read."""

_DOMAIN = b"faceferry: the group of the store's replicas, 1"


def shared_filters(settings: StoreSettings) -> list[str]:
    """Return the store's topic filters as those of a shared subscription: `$share/{group}/{filter}`.

    Raises:
        OSError: the file of the private key, which the group's name is made from, cannot be read.
    """
    group = _group(settings)
    return [f"$share/{group}/{bare_topics.parse(text).filter}" for text in settings.store_topics]


def group_of(secret: bytes) -> str:
    """Return a group's name that only holders of the secret can compute, and that does not reveal it."""
    return hmac.digest(secret, _DOMAIN, "sha256").hex()


def _group(settings: StoreSettings) -> str:
    if settings.store_group is not None:
        return settings.store_group.get_secret_value()
    if settings.cloud_key_file is not None:
        return group_of(_key(settings.cloud_key_file))
    if settings.cloud_mqtt_password is not None:
        return group_of(settings.cloud_mqtt_password.get_secret_value().encode())
    return PLAIN_GROUP


def _key(path: Path) -> bytes:
    """Return a key's text without white space: copies of one key may end their lines differently."""
    return b"".join(path.read_bytes().split())


MAX_OVERHEAD_BYTES = 256 * 1024
"""More than the topic and properties of any message take."""
MAX_KNOCK_BYTES = 4_096


class Listener:
    """Receives faces from one broker, and sends their receipts back through the same one.

    A device may send its faces through any of the brokers, in turn; it reads receipts at the one that it has
    just sent them through.

    Args:
        settings: of this service.
        broker: where to connect.
        limits: decides what is accepted; shared by the listeners of all brokers.
        floods: says which devices flood; shared likewise.

    Attributes:
        link: the connection with the shared subscription.
        links: both connections, which the caller opens in this order, and closes.
    """

    def __init__(
        self, settings: StoreSettings, broker: Broker, limits: DeviceLimits, floods: FloodMonitor
    ) -> None:
        self._max_face_bytes = settings.store_max_face_bytes
        self._retention = settings.retention
        self._topics = [bare_topics.parse(text) for text in settings.store_topics]
        self._knocker = Knocker([topic.filter for topic in self._topics], settings.store_knock_s)
        filters = shared_filters(settings)
        lanes = Lanes(
            broker, floods, filters, receive_maximum=settings.store_receive_maximum, wants=limits.allows
        )
        self.link = Link(
            "cloud",
            broker,
            identity="store",
            subscriptions=filters,
            receive_maximum=settings.store_receive_maximum,
            wants=self._wants,
            rest_s=lanes.rest_s,
            on_up=self._knocker.link_up,
            on_down=self._knocker.link_down,
        )
        self.links = (lanes.link, self.link)
        self._lanes = lanes
        self._limits = limits
        self._receipts = ReceiptBatches(self._send_receipt)

    async def listen(self, writer: FaceWriter) -> None:
        """Put each accepted message into the writer's queue, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._lanes.run(), name="store.lanes")
            tasks.create_task(self._knocker.run(self.link), name="store.knock")
            for link in self.links:
                tasks.create_task(self._listen(link, writer), name=f"store.listen {link.name}")

    async def _listen(self, link: Link, writer: FaceWriter) -> None:
        """Queue the messages of one connection; one that is larger than any face is refused at once."""
        most_bytes = self._max_face_bytes + MAX_OVERHEAD_BYTES
        async for delivery in link:
            if self._knocker.take(delivery):
                continue
            face = IncomingFace(
                delivery,
                self._receipts,
                self._max_face_bytes,
                self._topics,
                self._limits.note_refused,
                retention=self._retention,
            )
            if delivery.size_bytes > most_bytes:
                allowed = f"{delivery.size_bytes} bytes, {self._max_face_bytes} allowed"
                face.refused(Refused("too_large", allowed))
            else:
                writer.take(face)

    def _wants(self, topic: str, size_bytes: int) -> bool:
        self._knocker.note_message()
        if topic == KNOCK:
            return size_bytes < MAX_KNOCK_BYTES
        return not self._lanes.is_copy(topic) and self._limits.allows(topic, size_bytes)

    def _send_receipt(self, message: Message) -> None:
        quiet = self._lanes.link
        (quiet if quiet.is_up else self.link).publish(message)
