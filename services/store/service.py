import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from services.common.mqtt import Broker, check_any, notes_of
from services.common.runtime import http
from services.common.runtime.metrics import Counts, summarise, totals
from services.common.runtime.queues import Backoff
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable, WholeStore
from services.store import metrics
from services.store.admission import Admitted
from services.store.availability import Availability
from services.store.ear import MOST_AROUND_BYTES, Door, Ear
from services.store.erasures import Erasures, Telling, look_for_ever
from services.store.herald import heralding
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
        http.serve(settings.http_host, settings.http_port, checks, notes=notes_of(links)),
    ):
        await verify(objects, availability)
        erasures = await know_erasures(settings, objects, availability)
        async with AsyncExitStack() as stack:
            for ear in ears:
                await stack.enter_async_context(ear)
            writer = await stack.enter_async_context(
                writing(settings, objects, availability, waiting, erasures)
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            if erasures is not None:
                checks["erasures"] = erasures.following.why_unknown
                tasks.create_task(tell(settings, erasures), name="store.tell")
            tasks.create_task(availability.watch(objects), name="store.watch")
            for ear in ears:
                tasks.create_task(ear.listen(writer), name=f"store.listen {ear.link.address}")
            summary = summarise("store.summary", what_was_done, writer.waits)
            tasks.create_task(summary, name="store.summary")
            tasks.create_task(keep(settings), name="store.keep")


@asynccontextmanager
async def writing(
    settings: StoreSettings,
    objects: WholeStore,
    availability: Availability,
    waiting: Waiting[Job],
    erasures: Erasures | None,
) -> AsyncIterator[Writer]:
    """Write what waits, and the index of it, for as long as the context lasts."""
    is_erased = (lambda _: False) if erasures is None else erasures.is_erased
    see: Callable[[Admitted], None] = (lambda _: None) if erasures is None else erasures.see
    has_erased = (lambda *_: False) if erasures is None else erasures.has_erased
    async with (
        indexing(objects, settings.store_index_s, is_erased) as indexed,
        heralding(objects, settings, has_erased) as told,
    ):

        def noted(admitted: Admitted) -> None:
            indexed(admitted)
            told(admitted)

        writer = Writer(
            objects, availability, waiting, concurrency=settings.store_concurrency, noted=noted, see=see
        )
        async with writer:
            yield writer


async def know_erasures(
    settings: StoreSettings, objects: WholeStore, availability: Availability
) -> Erasures | None:
    """Wait until it is known what was erased, or None where nobody may erase.

    Raises:
        SetupError: the key is none.
    """
    if (verify := settings.erase_verifier()) is None:
        return None
    erasures = Erasures(objects, verify)
    await _until_it_answers(erasures.begin, availability)
    return erasures


async def tell(settings: StoreSettings, erasures: Erasures) -> None:
    """Follow what is ordered, and have devices told of it at each broker, until cancelled."""
    tellings = [Telling(broker, erasures) for broker in Broker.cloud(settings)]
    async with AsyncExitStack() as stack:
        for telling in tellings:
            await stack.enter_async_context(telling)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for telling in tellings:
            tasks.create_task(telling.listen(), name="store.hear_reports")
        await look_for_ever(erasures, tellings, settings.store_erasures_s)


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
    await _until_it_answers(objects.verify, availability)


async def _until_it_answers(ask: Callable[[], Awaitable[object]], availability: Availability) -> None:
    """Ask the store for something again and again, and say how it is."""
    backoff = Backoff(FIRST_RETRY_S, LAST_VERIFY_S)
    while True:
        try:
            await ask()
        except StoreUnavailable as error:
            availability.verify_failed(error)
        else:
            availability.verified()
            return
        await asyncio.sleep(backoff.next_s())
