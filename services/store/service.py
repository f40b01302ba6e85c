"""The parts of the store service, wired together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain

from services.common.mqtt import Broker, any_ready, readiness_notes
from services.common.runtime import http
from services.common.runtime.concurrency import Backoff
from services.common.runtime.metrics import Counts, summarise, totals
from services.common.storage.backends import open_store
from services.common.storage.objects import ObjectStore, StoreUnavailable, WholeStore
from services.store import metrics
from services.store.admission import Admitted
from services.store.availability import Availability
from services.store.erasures import ErasurePublisher, KnownErasures, follow
from services.store.face_writer import FIRST_RETRY_S, FaceWriter, Job
from services.store.fair_queue import FairQueue
from services.store.floods import FloodMonitor
from services.store.indexing import indexing
from services.store.listener import MAX_OVERHEAD_BYTES, DeviceLimits, Listener
from services.store.notifications import notifying
from services.store.settings import StoreSettings
from services.store.sweep_job import sweep_regularly

LAST_VERIFY_S = 3.0


async def serve(settings: StoreSettings) -> None:
    """Put faces into the store until cancelled.

    The service subscribes only after the bucket or folder has taken a probe, so that a replica with bad
    access takes no share of the faces.

    Raises:
        SetupError: the bucket, the folder or the certificates can never work as they are set.
    """
    availability = Availability()
    floods = FloodMonitor()
    queue = FairQueue[Job](
        settings.store_max_waiting_faces,
        settings.store_max_waiting_bytes + MAX_OVERHEAD_BYTES,
        floods.most_at_work,
    )
    limits = DeviceLimits(settings, queue, floods)
    listeners = [Listener(settings, broker, limits, floods) for broker in Broker.cloud(settings)]
    links = [listener.link for listener in listeners]
    checks = {"cloud": any_ready(links), "store": availability.why_not_ready}
    async with (
        open_store(settings, may_make_folder=settings.store_make_folder) as objects,
        http.serve(settings.http_host, settings.http_port, checks, notes=readiness_notes(links)),
    ):
        await verify(objects, availability)
        erasures = await load_erasures(settings, objects, availability)
        async with AsyncExitStack() as stack:
            for link in chain.from_iterable(listener.links for listener in listeners):
                await stack.enter_async_context(link)
            writer = await stack.enter_async_context(
                writing(settings, objects, availability, queue, erasures)
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            if erasures is not None:
                checks["erasures"] = erasures.following.why_unknown
                tasks.create_task(announce_erasures(settings, erasures), name="store.erasures")
            tasks.create_task(availability.watch(objects), name="store.watch")
            for listener in listeners:
                tasks.create_task(listener.listen(writer), name=f"store.listen {listener.link.address}")
            summary = summarise("store.summary", counts_so_far, writer.waiting_summary)
            tasks.create_task(summary, name="store.summary")
            tasks.create_task(sweep_regularly(settings), name="store.sweep")


@asynccontextmanager
async def writing(
    settings: StoreSettings,
    objects: WholeStore,
    availability: Availability,
    queue: FairQueue[Job],
    erasures: KnownErasures | None,
) -> AsyncIterator[FaceWriter]:
    """Run the writer, and what is told of each stored face: the index and the notifications.

    Args:
        settings: of this service.
        objects: the bucket or folder.
        availability: is told of each write.
        queue: holds the faces that wait; the writer alone changes it from here on.
        erasures: what must not be stored again; None where nothing may be erased.

    Yields:
        the writer. Leaving the context waits until what it holds is durable.
    """
    is_erased = (lambda _: False) if erasures is None else erasures.is_erased
    check_erased: Callable[[Admitted], None] = (lambda _: None) if erasures is None else erasures.check
    has_erased = (lambda *_: False) if erasures is None else erasures.has_erased
    async with (
        indexing(objects, settings.store_index_s, is_erased) as index,
        notifying(objects, settings, has_erased) as notify,
    ):

        def on_stored(admitted: Admitted) -> None:
            index(admitted)
            notify(admitted)

        writer = FaceWriter(
            objects,
            availability,
            queue,
            concurrency=settings.store_concurrency,
            on_stored=on_stored,
            check_erased=check_erased,
        )
        async with writer:
            yield writer


async def load_erasures(
    settings: StoreSettings, objects: WholeStore, availability: Availability
) -> KnownErasures | None:
    """Return what was erased, once the log of it can be read; None where no erase key is set.

    Raises:
        SetupError: FACEFERRY_ERASE_KEY is not a public key.
    """
    if (verify := settings.erase_verifier()) is None:
        return None
    erasures = KnownErasures(objects, verify)
    await _retry_until_available(erasures.load, availability)
    return erasures


async def announce_erasures(settings: StoreSettings, erasures: KnownErasures) -> None:
    """Follow the log of erasures, and pass its orders on to devices at each broker, until cancelled."""
    all_orders = [ErasurePublisher(broker, erasures) for broker in Broker.cloud(settings)]
    async with AsyncExitStack() as stack:
        for orders in all_orders:
            await stack.enter_async_context(orders.link)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for orders in all_orders:
            tasks.create_task(orders.listen(), name="store.erasure_reports")
        await follow(erasures, all_orders, settings.store_erasures_s)


def counts_so_far() -> Counts:
    """Return the counters of the summary line, by name; they never fall."""
    return totals(
        {
            "stored": metrics.PUTS,
            "refused": metrics.REFUSED,
            "dropped": metrics.DROPPED,
            "retried": metrics.RETRIES,
        }
    )


async def verify(objects: ObjectStore, availability: Availability) -> None:
    """Wait until the bucket or folder has taken a probe.

    Raises:
        SetupError: it can never work as it is set.
    """
    await _retry_until_available(objects.verify, availability)


async def _retry_until_available(ask: Callable[[], Awaitable[object]], availability: Availability) -> None:
    """Try a request, with growing waits, until the store answers it; each outcome goes to `availability`."""
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
