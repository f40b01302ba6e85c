"""Messages that have come in, until the service takes them."""

import asyncio
from collections.abc import Callable

from services.common.errors import Refused
from services.common.mqtt.connection import Connection
from services.common.mqtt.endpoint import LARGE_BYTES
from services.common.mqtt.packets import Publication
from services.common.runtime.metrics import MQTT_DROPPED, Drops
from services.common.wire.message import Message

PACKET_BYTES = 2_048
"""What a packet that waits takes of memory besides itself."""
MAX_WAITING = 512
"""QoS 0 messages that wait for the service; beyond it they are dropped and counted. QoS 1 messages are
bounded by the receive maximum instead."""
Wants = Callable[[str, int], bool]
"""Says of a topic, and of a message's size in bytes, whether it is wanted."""

drops = Drops(MQTT_DROPPED, "mqtt.message_dropped")


class Delivery:
    """A message that has come in, and its acknowledgement, which is due once.

    Attributes:
        topic: the message's.
        size_bytes: what it takes, taken apart or not.
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
        """The message, which is taken apart when it is asked for first.

        Raises:
            Refused: `malformed`; only of a link with `wants`, others hand over no such message.
        """
        try:
            return self.parse()
        except ValueError as error:
            raise Refused("malformed", str(error)) from error

    def parse(self) -> Message:
        """Return the message.

        Raises:
            ValueError: it is malformed.
        """
        if self._message is None:
            assert self._publication is not None
            self._message = self._publication.message()
            self._publication = None  # the picture is in memory once
        return self._message

    def acknowledge(self) -> None:
        """Tell the broker that it may send another; nothing more is promised by it.

        The acknowledgement belongs to the connection that delivered the message and is dropped with it: a
        restarted broker numbers from 1 again, and an old number would hit a new message.
        """
        if self._qos > 0 and self._inbox.connection is self._client:
            self._client.reader.acknowledge(self._packet_id)


class Inbox:
    """What waits for the service.

    Args:
        link: the link's name, for metrics.
        wants: see `Link`.
        on_large: called for each message that fills packets of the network.

    Attributes:
        connection: the one that messages may be acknowledged to.
        waiting_bytes: what those take that wait for the service.
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
        """Return the next message that came in, over however many connections."""
        delivery = await self._deliveries.get()
        self.waiting_bytes -= delivery.size_bytes
        return delivery

    def open(self) -> None:
        """Hand over what comes from here on, and what has come together with the answer to subscriptions.

        That is what is retained: nobody is to hear of a message while the link seems to be down.
        """
        self._is_open = True
        for delivery in self._early:
            self._deliveries.put_nowait(delivery)
        self._early.clear()

    def close(self) -> None:
        """Keep what comes from here on until the next `open`."""
        self.connection = None
        self._is_open = False
        self.waiting_bytes -= sum(delivery.size_bytes for delivery in self._early)
        self._early.clear()

    def receive(self, client: Connection, publication: Publication) -> None:
        """Take in what has come over a connection.

        Raises:
            ValueError: it is malformed.
        """
        size_bytes = len(publication.packet) + PACKET_BYTES
        if size_bytes > LARGE_BYTES:
            self._on_large()
        if (topic := publication.topic) is None:
            drops.count("bad_topic", self._link)
        elif self._wants is not None:
            if self._wants(topic, size_bytes):  # whoever does not want it counts it, and bounds what waits
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
