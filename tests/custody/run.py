"""A run: known faces go in while everything that can fail does; at the end the bucket is compared."""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Collection
from pathlib import Path
from urllib.request import urlopen

from tests.custody import control
from tests.custody.clouds import Make
from tests.custody.comparison import Comparison, compare, objects_in
from tests.custody.damage import DATABASE, Toll, opened
from tests.custody.driver import Driver, driving
from tests.custody.faces import known_face, sealed_face
from tests.custody.faults import LONGER_THAN_RESERVE_S, Fault, deck
from tests.custody.readiness import watched
from tests.custody.report import Event, Report
from tests.custody.rig import Rig, rig
from tests.support import ServiceProcess, eventually

AT_ONCE = 2
"""Quick faults at one time, at most."""
READY_S = 60.0
ALONE_PAUSE_S = 1.5
FAULT_TAKES_S = 1.5
"""What it takes to make a fault, and until all is ready again, at a guess."""
QUIET_S = 150.0
"""How long the last faces may take when all is well again: link and bucket are tried every 10 s at least, and
after a long silence one face knocks once a minute."""
REQUEUE_EVERY_S = 8.0
MOST_REQUEUES = 6


async def run(
    folder: Path,
    s3_program: str,
    seed: int,
    *,
    faces: int,
    faults: int,
    seconds: float,
    full_s: tuple[float, float] = LONGER_THAN_RESERVE_S,
    only: Collection[str] = (),
    keep: str = "every",
    make_clouds: Make | None = None,
    alone: bool = False,
    sealed_to: str | None = None,
) -> Report:
    """Play a run and compare.

    Args:
        folder: empty.
        s3_program: versitygw.
        seed: what all chances come from; the timing of processes is not in it.
        faces: how many go in.
        faults: how many happen.
        seconds: how long the faces take to go in, if nothing holds them up.
        full_s: how long the disk is full at the shortest and at the longest, when it is for long.
        only: the kinds of faults that happen; all by default.
        keep: which faces forward wants: `every` or `visits`; then it is asked before each.
        make_clouds: runs the brokers in the cloud; one Mosquitto by default.
        alone: whether each fault begins when the one before is healed and a moment has passed; `seconds` does
            not matter then, for the faces take as long as the faults.
        sealed_to: the public key that all faces are sealed for, if they are.
    """
    rng = random.Random(seed)
    make = functools.partial(known_face, seed)
    if sealed_to is not None:
        make = functools.partial(sealed_face, sealed_to, seed)
    started_s = time.monotonic()
    async with (
        rig(folder, s3_program, keep=keep, make_clouds=make_clouds) as stage,
        driving(stage.local.url, make, lambda: stage.device, is_asking=keep == "visits") as driver,
    ):
        happened: list[Event] = []
        happening = deck(rng, faults, stage, full_s, only)
        if alone:
            seconds = sum(sum(fault.lasts_s) / 2 + ALONE_PAUSE_S + FAULT_TAKES_S for fault in happening)
        await ready(stage)
        async with watched(stage) as watch, asyncio.TaskGroup() as tasks:
            offering = tasks.create_task(driver.offer(range(faces), faces / seconds))
            if alone:
                await play_alone(stage, happening, rng, happened)
            else:
                await play(stage, happening, rng, happened, seconds / faults)
            # A forward that is wedged takes none, for ever; all else is healed by now.
            await asyncio.wait([offering], timeout=seconds + QUIET_S)
            offering.cancel()
        await quiet(stage, driver)
        expected = itertools.chain(driver.offered(), stage.toll.planted.values())
        found = await asyncio.to_thread(compare, stage.objects, expected, stage.toll.destroyed)
        _say_what_is_wrong(found)
        missed = await asyncio.to_thread(control.missed_by_the_judge, stage.objects, stage.toll, driver)
        report = _report(seed, keep, faces, stage, driver, happened, found)
        seconds = time.monotonic() - started_s
        return dataclasses.replace(report, seconds=seconds, control_missed=missed, unready=watch.unready())


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


async def play_alone(stage: Rig, faults: list[Fault], rng: random.Random, happened: list[Event]) -> None:
    """Let faults happen one after the other, with a moment between them in which all is well."""
    started_s = time.monotonic()
    for fault in faults:
        at_s, before = time.monotonic() - started_s, stage.tap.sent_again
        lasts_s = rng.uniform(*fault.lasts_s)
        async with fault.happens(stage, rng):
            await asyncio.sleep(lasts_s)
        await ready(stage)
        await asyncio.sleep(rng.uniform(0, 2 * ALONE_PAUSE_S))
        happened.append(Event(fault.name, at_s, lasts_s, stage.tap.sent_again - before))


async def ready(stage: Rig) -> None:
    """Wait until both services have all that they need."""
    for part in stage.services.values():
        await eventually(functools.partial(is_ready, part.process), READY_S)


def is_ready(process: ServiceProcess) -> bool:
    """Say whether a service answers that it is ready."""
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{process.http_port}/readyz", timeout=5):
        return True
    return False


async def quiet(stage: Rig, driver: Driver) -> None:
    """Wait until everything has arrived and forward holds nothing, or for as long as it may take.

    What was set aside for a cause that is repaired is put back, as an operator would.
    """
    deadline_s = time.monotonic() + QUIET_S
    requeue_at_s = time.monotonic() + REQUEUE_EVERY_S
    most = MOST_REQUEUES
    while time.monotonic() < deadline_s:
        if not driver.held and await asyncio.to_thread(_is_all_there, stage, driver):
            return
        if time.monotonic() > requeue_at_s and most > 0 and _is_repaired(stage):
            most -= 1
            await stage.requeue()
            requeue_at_s = time.monotonic() + REQUEUE_EVERY_S
        await asyncio.sleep(0.5)


def _is_all_there(stage: Rig, driver: Driver) -> bool:
    expected = {face.id for face in driver.offered()} | stage.toll.planted.keys()
    stored = {Path(key).stem for key in objects_in(stage.objects)}
    held = _spooled(stage, "SELECT id FROM faces")
    if held is None:
        return False
    return expected - stage.toll.destroyed <= stored and not {*expected, *driver.ledger.numbers} & set(held)


def _is_repaired(stage: Rig) -> bool:
    """Say whether faces are set aside for a wrong device name, which is right now."""
    reasons = _spooled(stage, "SELECT DISTINCT reason FROM set_aside") or []
    return bool({"other_device", "not_authorized"} & set(reasons))


def _spooled(stage: Rig, query: str) -> list[str] | None:
    """Ask the spool, or None while it cannot be read."""
    with contextlib.suppress(sqlite3.DatabaseError), opened(stage.spool / DATABASE) as connection:
        return [bytes(text).decode(errors="replace") for (text,) in connection.execute(query)]
    return None


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
    seed: int, keep: str, wanted: int, stage: Rig, driver: Driver, events: list[Event], found: Comparison
) -> Report:
    ledger, toll = driver.ledger, stage.toll
    took_s = [
        stored_s - ledger.offered_at[ledger.numbers[face_id]]
        for face_id, stored_s in found.stored_at.items()
        if face_id in ledger.numbers
    ]
    return Report(
        seed=seed,
        keep=keep,
        asked=ledger.asked,
        answered=ledger.answered,
        faces=len(ledger.offered_at),
        unoffered=wanted - len(ledger.offered_at),
        events=tuple(events),
        lost=len(found.lost),
        lost_of_receipted=len({Path(key).stem for key in found.lost} & _receipted(driver, toll)),
        duplicates=len(found.duplicates),
        differing=len(found.differing),
        unexpected=len(found.unexpected),
        planted=len(toll.planted),
        destroyed=len(found.excused),
        spoilt=len(toll.spoilt),
        harms=dict(toll.harms),
        requeues=stage.requeues,
        notes=tuple(stage.notes),
        resent_local=sum(times > 1 for times in ledger.times_published.values()),
        resent_uplink=sum(times > 1 for times in stage.tap.sent.values()),
        sendings_uplink=stage.tap.sent.total(),
        sent_uplink=len(stage.tap.sent),
        typical_s=statistics.median(took_s) if took_s else 0.0,
        longest_s=max(took_s, default=0.0),
        crashes={name: part.crashes for name, part in (*stage.services.items(), ("standby", stage.standby))},
        missing=stage.missing,
    )


def _receipted(driver: Driver, toll: Toll) -> set[str]:
    """Return the ids that forward has said it has, or was given on its own disk."""
    ledger = driver.ledger
    ids = {face_id for face_id, number in ledger.numbers.items() if number in ledger.taken}
    return ids | toll.planted.keys()
