import asyncio
from types import TracebackType
from typing import Self

from services.common.errors import Refused
from services.common.mqtt import Broker, Link
from services.common.wire import bare_topics
from services.common.wire.message import Message
from services.store.answers import Answers
from services.store.arrivals import Arrival
from services.store.bypass import Bypass
from services.store.door import Door
from services.store.group import share
from services.store.knocking import TOPIC as KNOCK
from services.store.knocking import Knocking
from services.store.lanes import Lanes
from services.store.settings import StoreSettings
from services.store.writer import Writer

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
