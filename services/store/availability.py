"""Whether the store works, for readiness, metrics and log; checks it when that is due."""

import asyncio
import time
from collections.abc import Callable

from services.common.storage.objects import ObjectStore, StoreUnavailable
from services.common.storage.store_health import StoreHealth
from services.store.metrics import AVAILABLE
from services.store.outages import OutageDetector

TICK_S = 0.25
RETRY_AT_LEAST_EVERY_S = 2.5
"""The longest wait before a face that alone cannot be written is tried again, so that `/readyz` soon notices
when it can be."""


class Availability:
    """Whether the bucket or folder takes writes just now, for `/readyz`, the gauge and the log.

    All three say the same; `OutageDetector` decides it. The log has a line when it changes.

    Args:
        clock: returns seconds of a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outages = OutageDetector()
        self._works_again = asyncio.Event()
        self._health = StoreHealth(AVAILABLE, "store.available", "store.unavailable", "not tried yet")

    def why_not_ready(self) -> str | None:
        """Return None while all is well, else what is wrong (see `http.Check`)."""
        return self._health.why_not_ready()

    def verify_failed(self, error: StoreUnavailable) -> None:
        """Note that the probe at the start failed."""
        self._health.failed(error)

    def verified(self) -> None:
        """Note that the store has taken the probe at the start."""
        self._health.worked()

    def write_started(self, face_id: str) -> None:
        """Note that a face is being written."""
        self._outages.write_started(face_id, self._clock())

    def write_worked(self, face_id: str, *, is_new: bool) -> None:
        """Note that a face is stored.

        Args:
            face_id: of the face.
            is_new: whether this write created it; it may have been there before.
        """
        self._outages.write_worked(face_id, self._clock(), is_new=is_new)

    def write_failed(self, face_id: str, size_bytes: int, error: StoreUnavailable) -> None:
        """Note that a face could not be written, and will be tried again."""
        self._outages.write_failed(face_id, size_bytes, error, self._clock())

    def write_given_up(self, face_id: str) -> None:
        """Note that a face that could not be written will not be tried again."""
        self._outages.write_given_up(face_id)

    @property
    def is_in_trouble(self) -> bool:
        """Whether the store as a whole does not work just now."""
        return self._outages.is_in_trouble

    async def pause(self, seconds: float) -> None:
        """Wait before a face is tried again: for this long, or until the store works again."""
        if not self._outages.is_in_trouble:
            seconds = min(seconds, RETRY_AT_LEAST_EVERY_S)
        try:
            async with asyncio.timeout(seconds):
                await self._works_again.wait()
        except TimeoutError:
            return

    async def watch(self, objects: ObjectStore) -> None:
        """Check the store itself when that is due, until cancelled."""
        while True:
            if self._outages.is_check_due(self._clock(), objects.check_every_s):
                await self._check(objects)
            self._show(self._outages.error(self._clock()))
            await asyncio.sleep(TICK_S)

    async def _check(self, objects: ObjectStore) -> None:
        limit_s = self._outages.check_limit_s(self._clock())
        self._outages.check_started(self._clock())
        try:
            async with asyncio.timeout(limit_s):
                await objects.check(self._outages.room_bytes)
        except TimeoutError:
            error = StoreUnavailable("timeout", f"no answer for {limit_s} s")
            self._outages.check_failed(error, self._clock())
        except StoreUnavailable as error:
            self._outages.check_failed(error, self._clock())
        else:
            if self._outages.is_in_trouble:
                self._wake()
            self._outages.check_worked(self._clock())

    def _wake(self) -> None:
        self._works_again.set()
        self._works_again = asyncio.Event()

    def _show(self, error: StoreUnavailable | None) -> None:
        if error is None:
            self._health.worked()
        else:
            self._health.failed(error)
