import asyncio
from datetime import UTC, datetime

from services.common import health
from services.common.backoff import Backoff
from services.common.drops import Drops
from services.common.errors import Refused
from services.common.mqtt import Broker, Delivery, Link
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.store.admission import Admitted, admit, refusal_address
from services.store.answers import Answers
from services.store.availability import Availability
from services.store.group import share
from services.store.metrics import REFUSED
from services.store.settings import StoreSettings
from services.store.writer import FIRST_RETRY_S, Writer

LAST_VERIFY_S = 3.0

_drops = Drops(REFUSED, "store.face_refused")


async def serve(settings: StoreSettings) -> None:
    """Put faces into the store until cancelled.

    Nothing is asked of the broker before the store has taken a probe, so that a replica with bad access
    takes no share of the faces.

    Raises:
        SetupError: a store or certificates that can never work.
    """
    availability = Availability()
    link = Link(
        "cloud",
        Broker.cloud(settings),
        identity="store",
        subscriptions=share(settings),
        receive_maximum=settings.store_receive_maximum,
    )
    checks = {"cloud": link.why_not_ready, "store": availability.why_not_ready}
    async with (
        open_store(settings, may_make_folder=settings.store_make_folder) as objects,
        health.serve(settings.http_host, settings.http_port, checks),
    ):
        await verify(objects, availability)
        writer = Writer(
            objects,
            availability,
            concurrency=settings.store_concurrency,
            max_waiting_bytes=settings.store_max_waiting_bytes,
        )
        async with link, writer, asyncio.TaskGroup() as tasks:
            tasks.create_task(availability.watch(objects), name="store.watch")
            await receive(link, writer, Answers(link.publish), settings.store_max_face_bytes)


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


async def receive(link: Link, writer: Writer, answers: Answers, max_face_bytes: int) -> None:
    """Hand each face that comes in to the writer, and refuse what is none."""
    async for delivery in link:
        try:
            admitted = admit(delivery.message, datetime.now(UTC), max_face_bytes)
        except Refused as refusal:
            _refuse(delivery, refusal, answers)
        else:
            _take(delivery, admitted, writer, answers)


def _take(delivery: Delivery, admitted: Admitted, writer: Writer, answers: Answers) -> None:
    def on_stored() -> None:
        if not admitted.is_bare:
            answers.stored(admitted.face.source.device, admitted.face.id)
        delivery.acknowledge()

    writer.take(admitted, on_stored, delivery.acknowledge)


def _refuse(delivery: Delivery, refusal: Refused, answers: Answers) -> None:
    message = delivery.message
    _drops.count(refusal.reason, topic=message.topic[:200], detail=refusal.detail)
    if (address := refusal_address(message)) is not None:
        answers.refused(*address, refusal.reason)
    delivery.acknowledge()
