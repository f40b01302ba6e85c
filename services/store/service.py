import asyncio
from contextlib import AsyncExitStack

from services.common import health
from services.common.backoff import Backoff
from services.common.mqtt import Broker, check_any, notes_of
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.summary import Counts, summarise, totals
from services.store import metrics
from services.store.availability import Availability
from services.store.door import Door
from services.store.ear import MOST_AROUND_BYTES, Ear
from services.store.indexing import indexing
from services.store.keeping import keep
from services.store.lanes import Lanes
from services.store.settings import StoreSettings
from services.store.waiting import Waiting
from services.store.writer import FIRST_RETRY_S, Job, Writer

LAST_VERIFY_S = 3.0


async def serve(settings: StoreSettings) -> None:
    """Put faces into the store until cancelled.

    Nothing is asked of the broker before the store has taken a probe, so that a replica with bad access
    takes no share of the faces.

    Raises:
        SetupError: a store or certificates that can never work.
    """
    availability = Availability()
    lanes = Lanes()
    waiting = Waiting[Job](
        settings.store_max_waiting_faces,
        settings.store_max_waiting_bytes + MOST_AROUND_BYTES,
        lanes.most_at_work,
    )
    door = Door(settings, waiting, lanes)
    ears = [Ear(settings, broker, door, lanes) for broker in Broker.cloud(settings)]
    links = [ear.link for ear in ears]
    checks = {"cloud": check_any(links), "store": availability.why_not_ready}
    async with (
        open_store(settings, may_make_folder=settings.store_make_folder) as objects,
        health.serve(settings.http_host, settings.http_port, checks, notes=notes_of(links)),
    ):
        await verify(objects, availability)
        async with AsyncExitStack() as stack:
            noted = await stack.enter_async_context(indexing(objects, settings.store_index_s))
            writer = Writer(
                objects, availability, waiting, concurrency=settings.store_concurrency, noted=noted
            )
            for ear in ears:
                await stack.enter_async_context(ear)
            await stack.enter_async_context(writer)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(availability.watch(objects), name="store.watch")
            for ear in ears:
                tasks.create_task(ear.listen(writer), name=f"store.listen {ear.link.address}")
            summary = summarise("store.summary", what_was_done, writer.waits)
            tasks.create_task(summary, name="store.summary")
            tasks.create_task(keep(settings), name="store.keep")


def what_was_done() -> Counts:
    """Return what was counted so far."""
    return totals(
        {
            "stored": metrics.PUTS,
            "refused": metrics.REFUSED,
            "dropped": metrics.DROPPED,
            "retried": metrics.RETRIES,
        }
    )


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
