import asyncio

from services.common import bare_topics, health
from services.common.backoff import Backoff
from services.common.errors import Refused
from services.common.message import Message
from services.common.mqtt import Broker, Link
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.store.answers import Answers
from services.store.arrivals import Arrival
from services.store.availability import Availability
from services.store.door import Door
from services.store.group import share
from services.store.settings import StoreSettings
from services.store.waiting import Waiting
from services.store.writer import FIRST_RETRY_S, Job, Writer

LAST_VERIFY_S = 3.0
MOST_AROUND_BYTES = 256 * 1024
"""More than topic and properties of any message take."""


async def serve(settings: StoreSettings) -> None:
    """Put faces into the store until cancelled.

    Nothing is asked of the broker before the store has taken a probe, so that a replica with bad access
    takes no share of the faces.

    Raises:
        SetupError: a store or certificates that can never work.
    """
    availability = Availability()
    waiting = Waiting[Job](
        settings.store_max_waiting_faces, settings.store_max_waiting_bytes + MOST_AROUND_BYTES
    )
    link = Link(
        "cloud",
        Broker.cloud(settings),
        identity="store",
        subscriptions=share(settings),
        receive_maximum=settings.store_receive_maximum,
        wants=Door(settings, waiting).lets_in,
    )
    # A broker reads one packet of each connection in turn: on the same one receipts would wait behind the
    # acknowledgements of a flood.
    speaking = Link("cloud_receipts", Broker.cloud(settings), identity="store-receipts")

    def tell(message: Message) -> None:
        (speaking if speaking.is_up else link).publish(message)

    checks = {"cloud": link.why_not_ready, "store": availability.why_not_ready}
    async with (
        open_store(settings, may_make_folder=settings.store_make_folder) as objects,
        health.serve(settings.http_host, settings.http_port, checks),
    ):
        await verify(objects, availability)
        writer = Writer(objects, availability, waiting, concurrency=settings.store_concurrency)
        async with speaking, link, writer, asyncio.TaskGroup() as tasks:
            tasks.create_task(availability.watch(objects), name="store.watch")
            await receive(link, writer, Answers(tell), settings)


async def verify(objects: ObjectStore, availability: Availability) -> None:
    """Wait until the store has taken a probe.

    Raises:
        SetupError: it never will.
    """
    backoff = Backoff(FIRST_RETRY_S, LAST_VERIFY_S)
    while True:
        try:
            await objects.verify()
        except StoreUnavailable as error:
            availability.verify_failed(error)
        else:
            availability.verified()
            return
        await asyncio.sleep(backoff.next_s())


async def receive(link: Link, writer: Writer, answers: Answers, settings: StoreSettings) -> None:
    """Have each message wait for its turn; one that is larger than any face is refused at once."""
    max_face_bytes = settings.store_max_face_bytes
    topics = [bare_topics.parse(text) for text in settings.store_topics]
    async for delivery in link:
        arrival = Arrival(delivery, answers, max_face_bytes, topics)
        if delivery.size_bytes > max_face_bytes + MOST_AROUND_BYTES:
            arrival.refused(Refused("too_large", f"{delivery.size_bytes} bytes, {max_face_bytes} allowed"))
        else:
            writer.take(arrival)
