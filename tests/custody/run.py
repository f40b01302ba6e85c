"""A run: known faces go in while everything that can fail does; at the end the bucket is compared."""

import asyncio
import contextlib
import functools
import random
import statistics
import time
from collections.abc import Awaitable
from pathlib import Path
from urllib.request import urlopen

from tests.custody.comparison import Comparison, compare, objects_in
from tests.custody.driver import Driver, Ledger, driving
from tests.custody.faces import known_face
from tests.custody.faults import Fault, deck
from tests.custody.report import Event, Report
from tests.custody.rig import Rig, rig
from tests.support import ServiceProcess, eventually

AT_ONCE = 2
"""Quick faults at one time, at most."""
QUIET_S = 90.0
"""How long the last faces may take when all is well again: link and bucket are tried every 10 s at least."""


async def run(folder: Path, s3_program: str, seed: int, *, faces: int, faults: int, seconds: float) -> Report:
    """Play a run and compare.

    Args:
        folder: empty.
        s3_program: versitygw.
        seed: what all chances come from; the timing of processes is not in it.
        faces: how many go in.
        faults: how many happen.
        seconds: how long the faces take to go in, if nothing holds them up.
    """
    rng = random.Random(seed)
    make = functools.partial(known_face, seed)
    started_s = time.monotonic()
    async with rig(folder, s3_program) as stage, driving(stage.local.url, make) as driver:
        happened: list[Event] = []
        await ready(stage)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(driver.offer(range(faces), faces / seconds))
            tasks.create_task(play(stage, deck(rng, faults, stage), rng, happened, seconds / faults))
        await quiet(stage, driver, faces)
        found = await asyncio.to_thread(compare, stage.objects, driver.ledger.numbers, make)
        _say_what_is_wrong(found)
        return _report(seed, time.monotonic() - started_s, stage, driver.ledger, happened, found)


async def play(
    stage: Rig, faults: list[Fault], rng: random.Random, happened: list[Event], pause_s: float
) -> None:
    """Let faults happen, in their order as far as what they touch is free, a few at one time."""
    busy: set[str] = set()
    quick = 0
    waiting = list(faults)
    is_free = asyncio.Event()
    started_s = time.monotonic()

    async def happen(fault: Fault) -> None:
        nonlocal quick
        lasts_s = rng.uniform(*fault.lasts_s)
        async with fault.happens(stage, rng):
            happened.append(Event(fault.name, time.monotonic() - started_s, lasts_s))
            await asyncio.sleep(lasts_s)
        busy.difference_update(fault.targets)
        quick -= not fault.is_slow
        is_free.set()

    async with asyncio.TaskGroup() as tasks:
        while waiting:
            is_free.clear()
            fault = next((each for each in waiting if not each.targets & busy), None)
            if fault is None or (quick >= AT_ONCE and not fault.is_slow):
                await is_free.wait()
                continue
            waiting.remove(fault)
            busy |= fault.targets
            quick += not fault.is_slow
            tasks.create_task(happen(fault))
            await asyncio.sleep(rng.uniform(0, 2 * pause_s))


async def ready(stage: Rig) -> None:
    """Wait until both services have all that they need."""
    for part in stage.services.values():
        await eventually(functools.partial(is_ready, part.process), 30)


def is_ready(process: ServiceProcess) -> bool:
    """Say whether a service answers that it is ready."""
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{process.http_port}/readyz", timeout=5):
        return True
    return False


async def quiet(stage: Rig, driver: Driver, faces: int) -> None:
    """Wait until everything has arrived and forward holds nothing, or for as long as it may take."""
    deadline_s = time.monotonic() + QUIET_S
    while time.monotonic() < deadline_s:
        is_all_there = await asyncio.to_thread(lambda: len(objects_in(stage.objects))) >= faces
        if not driver.held and is_all_there and await held_by_forward(stage) == 0:
            return
        await asyncio.sleep(0.5)


async def held_by_forward(stage: Rig) -> float:
    """Return how many faces are in the spool; one at least while it does not say."""
    process = stage.services["forward"].process
    return await _or_one(asyncio.to_thread(process.metric, "faceferry_spool_faces"))


async def _or_one(answer: Awaitable[float]) -> float:
    try:
        return await answer
    except OSError:
        return 1.0


def _say_what_is_wrong(found: Comparison) -> None:
    for name in ("lost", "differing", "duplicates", "unexpected"):
        for key in getattr(found, name)[:20]:
            print(f"{name}: {key}")  # noqa: T201 - shown when the test fails


def _report(  # noqa: PLR0917 - each is what its type says
    seed: int, seconds: float, stage: Rig, ledger: Ledger, events: list[Event], found: Comparison
) -> Report:
    took_s = [stored_s - ledger.offered_at[face_id] for face_id, stored_s in found.stored_at.items()]
    return Report(
        seed=seed,
        seconds=seconds,
        faces=len(ledger.numbers),
        events=tuple(events),
        lost=len(found.lost),
        duplicates=len(found.duplicates),
        differing=len(found.differing),
        unexpected=len(found.unexpected),
        resent_local=sum(times > 1 for times in ledger.times_published.values()),
        resent_uplink=sum(times > 1 for times in stage.tap.sent.values()),
        sendings_uplink=stage.tap.sent.total(),
        typical_s=statistics.median(took_s) if took_s else 0.0,
        longest_s=max(took_s, default=0.0),
        crashes={name: part.crashes for name, part in stage.services.items()},
        missing=stage.missing,
    )
