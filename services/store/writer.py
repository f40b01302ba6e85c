import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Self

import structlog

from services.common.backoff import Backoff
from services.common.drops import Drops
from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.store.admission import Admitted
from services.store.availability import Availability
from services.store.metrics import (
    CAPTURE_TO_STORE_SECONDS,
    COPIES,
    DROPPED,
    PUT_SECONDS,
    PUTS,
    RETRIES,
    WAITING_BYTES,
    WAITING_FACES,
)
from services.store.waiting import Arrival, Waiting

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 10.0

log = structlog.get_logger()
_drops = Drops(DROPPED, "store.face_dropped")


class Writer:
    """Makes faces durable, several at a time, and tries again for as long as the store has trouble.

    Use it as an async context manager; leaving it waits for what is not durable yet. Cancelling gives that
    up, which is safe: no receipt was sent for it.

    Args:
        objects: where the faces go.
        availability: is told how it goes.
        concurrency: writes at a time.
        max_waiting_bytes: see `Waiting`.
    """

    def __init__(
        self, objects: ObjectStore, availability: Availability, *, concurrency: int, max_waiting_bytes: int
    ) -> None:
        self._objects = objects
        self._availability = availability
        self._slots = asyncio.Semaphore(concurrency)
        self._waiting = Waiting(max_waiting_bytes)

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)

    def take(self, admitted: Admitted, on_stored: Callable[[], None], on_ignored: Callable[[], None]) -> None:
        """Take a face.

        Args:
            admitted: the face.
            on_stored: called once it is durable.
            on_ignored: called at once instead, where the face is being written already, or where there is
                no room for it.
        """
        arrival = self._waiting.add(admitted)
        if arrival is Arrival.NEW:
            self._tasks.create_task(self._store(admitted, on_stored))
            self._show_waiting()
            return
        if arrival is Arrival.COPY:
            COPIES.inc()
        else:
            _drops.count("no_room", id=admitted.face.id, waiting_bytes=self._waiting.bytes)
        on_ignored()

    async def _store(self, admitted: Admitted, on_stored: Callable[[], None]) -> None:
        is_new = await self._put_until_durable(admitted)
        self._waiting.remove(admitted.face.id)
        self._show_waiting()
        _report(admitted, is_new=is_new)
        on_stored()

    async def _put_until_durable(self, admitted: Admitted) -> bool:
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        face_id = admitted.face.id
        while True:
            try:
                async with self._slots:
                    started = perf_counter()
                    self._availability.write_started(face_id)
                    is_new = await self._objects.put(admitted.item)
            except StoreUnavailable as error:
                RETRIES.labels(error.reason).inc()
                self._availability.write_failed(face_id, len(admitted.item.body), error)
            else:
                PUT_SECONDS.observe(perf_counter() - started)
                self._availability.write_worked(face_id, is_new=is_new)
                return is_new
            await self._availability.pause(backoff.next_s())  # not in the slot: another face may fare better

    def _show_waiting(self) -> None:
        WAITING_FACES.set(len(self._waiting))
        WAITING_BYTES.set(self._waiting.bytes)


def _report(admitted: Admitted, *, is_new: bool) -> None:
    face = admitted.face
    PUTS.labels("created" if is_new else "existing").inc()
    log.info(
        "store.face_stored",
        id=face.id,
        device=face.source.device,
        camera=face.source.camera,
        key=admitted.item.key,
        bytes=len(face.image),
        is_new=is_new,
    )
    age_s = (datetime.now(UTC) - face.time).total_seconds()
    is_clock_good = face.extensions.get("clock") != "unsynchronised"
    if is_new and is_clock_good and age_s >= 0 and not admitted.is_bare:
        CAPTURE_TO_STORE_SECONDS.observe(age_s)
