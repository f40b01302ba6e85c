"""Messages that have come in and wait for the service, and their acknowledgement."""

import asyncio
from collections.abc import Callable

from services.common.errors import Refused
from services.common.mqtt.connection import Connection
from services.common.mqtt.endpoint import LARGE_BYTES
from services.common.mqtt.packets import Publication
from services.common.runtime.metrics import MQTT_DROPPED, Drops
from services.common.wire.message import Message

PACKET_BYTES = 2_048
"""Memory that a waiting packet takes besides its own bytes."""
MAX_WAITING = 512
"""QoS 0 messages that may wait for the service; further ones are dropped and counted. QoS 1 messages are
bounded by the receive maximum instead."""
Wants = Callable[[str, int], bool]
"""Says whether a message is wanted, by its topic and its size in bytes."""

drops = Drops(MQTT_DROPPED, "mqtt.message_dropped")


class Delivery:
    """A message that has come in, to be acknowledged once.

    Args:
        publication: the packet.
        topic: its topic name.
        inbox: where it waits.
        client: the connection that it came by.

    Attributes:
        topic: the message's.
        size_bytes: the memory that it takes, parsed or not.
    """

    __slots__ = ("_client", "_inbox", "_message", "_packet_id", "_publication", "_qos", "size_bytes", "topic")

    def __init__(self, publication: Publication, topic: str, inbox: "Inbox", client: Connection) -> None:
        self.topic = topic
        self.size_bytes = len(publication.packet) + PACKET_BYTES
        self._qos = publication.qos
        self._packet_id = publication.packet_id
        self._publication: Publication | None = publication
        self._message: Message | None = None
        self._inbox = inbox
        self._client = client

    @property
    def message(self) -> Message:
        """The message, parsed at the first access.

        Raises:
            Refused: `malformed`; only on a link with `wants`: others end the connection on such a message.
        """
        try:
            return self.parse()
        except ValueError as error:
            raise Refused("malformed", str(error)) from error

    def parse(self) -> Message:
        """Return the message, parsed once.

        Raises:
            ValueError: it is malformed.
        """
        if self._message is None:
            assert self._publication is not None
            self._message = self._publication.message()
            self._publication = None  # so that the picture is in memory once
        return self._message

    def acknowledge(self) -> None:
        """Let the broker send another message: this is flow control and promises nothing about custody.

        The acknowledgement belongs to the connection that delivered the message and is dropped with it: a
        restarted broker counts from 1 again, and an old packet identifier would hit a new message.
        """
        if self._qos > 0 and self._inbox.connection is self._client:
            self._client.reader.acknowledge(self._packet_id)


class Inbox:
    """The messages that wait for the service.

    Args:
        link: the link's name, for metrics.
        wants: see `Link`.
        on_large: called for each message of more than `LARGE_BYTES`.

    Attributes:
        connection: the present one; deliveries of others are not acknowledged any more.
        waiting_bytes: the memory of the waiting messages.
    """

    def __init__(self, link: str, wants: Wants | None, on_large: Callable[[], None]) -> None:
        self._on_large = on_large
        self.connection: Connection | None = None
        self._link = link
        self._wants = wants
        self._is_open = False
        self.waiting_bytes = 0
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self._early: list[Delivery] = []

    async def get(self) -> Delivery:
        """Return the next delivery, whichever connection it came by."""
        delivery = await self._deliveries.get()
        self.waiting_bytes -= delivery.size_bytes
        return delivery

    def open(self) -> None:
        """Hand over what comes from now on, and retained messages that came with the SUBACK.

        These were kept back, because a service must not see a message while the link is not up.
        """
        self._is_open = True
        for delivery in self._early:
            self._deliveries.put_nowait(delivery)
        self._early.clear()

    def close(self) -> None:
        """Keep back what comes from now on until the next `open`; drop what was kept back before."""
        self.connection = None
        self._is_open = False
        self.waiting_bytes -= sum(delivery.size_bytes for delivery in self._early)
        self._early.clear()

    def receive(self, client: Connection, publication: Publication) -> None:
        """Put what has come by a connection into the queue, or drop and acknowledge it.

        Raises:
            ValueError: it is malformed; not on a link with `wants`.
        """
        size_bytes = len(publication.packet) + PACKET_BYTES
        if size_bytes > LARGE_BYTES:
            self._on_large()
        if (topic := publication.topic) is None:
            drops.count("bad_topic", self._link)
        elif self._wants is not None:
            if self._wants(topic, size_bytes):  # `wants` counts what it rejects, and bounds what waits
                self._hand_over(Delivery(publication, topic, self, client))
                return
        elif publication.qos == 0 and self._deliveries.qsize() >= MAX_WAITING:
            drops.count("queue_full", self._link)
        else:
            delivery = Delivery(publication, topic, self, client)
            delivery.parse()
            self._hand_over(delivery)
            return
        if publication.qos > 0:
            client.reader.acknowledge(publication.packet_id)

    def _hand_over(self, delivery: Delivery) -> None:
        self.waiting_bytes += delivery.size_bytes
        if self._is_open:
            self._deliveries.put_nowait(delivery)
        else:
            self._early.append(delivery)
