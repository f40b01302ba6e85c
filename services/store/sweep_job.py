"""Removes faces from the store that are older than they are kept, beside its other work."""

import asyncio
import random
import threading
import time
from datetime import datetime

import structlog

from services.common.errors import SetupError
from services.common.retention import Retention, SettledClock
from services.common.runtime.metrics import Drops
from services.common.storage.backends import open_store
from services.common.storage.objects import StoreUnavailable
from services.store.metrics import EXPIRED, SWEEP_REFUSED, SWEEPS_FAILED, SWEPT_AT
from services.store.settings import StoreSettings
from services.store.sweep import Swept, sweep

SWEEP_EVERY_S = 3_600.0
AGAIN_S = 600.0
LOOK_AT_CLOCK_S = 60.0

log = structlog.get_logger()
_failures = Drops(SWEEPS_FAILED, "store.sweep_failed")
_refusals = Drops(SWEEP_REFUSED, "store.face_not_removed")


async def sweep_regularly(settings: StoreSettings, every_s: float = SWEEP_EVERY_S) -> None:
    """Sweep the store every `every_s` seconds until cancelled; return at once if faces are kept for ever.

    Each replica does it: the second one finds nothing. A sweep has a thread, an event loop and connections
    of its own, so that incoming faces do not wait for it.
    """
    if settings.retention.days is None:
        return
    clock = SettledClock()
    while True:
        now = clock.time(time.time(), time.monotonic())
        if now is None:
            await asyncio.sleep(LOOK_AT_CLOCK_S)
            continue
        is_done = await _sweep_in_thread(settings, now)
        pause_s = every_s if is_done else min(every_s, AGAIN_S)
        await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))


async def _sweep_in_thread(settings: StoreSettings, now: datetime) -> bool:
    """Sweep once; say whether that worked. When cancelled, the thread ends after a few hundred faces."""
    leaving = threading.Event()
    try:
        swept = await asyncio.to_thread(_sweep, settings, now, leaving)
    except StoreUnavailable as error:
        _failures.count(error.reason, detail=error.detail)
        return False
    finally:
        leaving.set()
    report(swept, settings.retention)
    SWEPT_AT.set(time.time())
    return True


def _sweep(settings: StoreSettings, now: datetime, leaving: threading.Event) -> Swept:
    async def work() -> Swept:
        async with open_store(settings, may_make_folder=False) as objects:
            return await sweep(objects, settings.retention, now, is_wanted=lambda: not leaving.is_set())

    try:
        return asyncio.run(work())
    except SetupError as error:  # the service itself ends with the same error
        raise StoreUnavailable("setup", str(error)) from error


def report(swept: Swept, retention: Retention) -> None:
    """Count and log what was removed, day by day, and what could not be."""
    for day, copies in sorted(swept.removed.items()):
        EXPIRED.inc(copies)
        log.info("store.day_swept", day=day, copies=copies, kept=str(retention))
    for reason, copies in swept.refused.items():
        for _ in range(copies):
            _refusals.count(reason, copies=copies)
