"""Each kind of fault that stops somebody's work, once and alone, while faces flow: is `/readyz` true?"""

import asyncio
import functools
import itertools
import random
import time
from collections.abc import Collection
from pathlib import Path

from tests.custody.driver import Driver, driving
from tests.custody.faces import known_face
from tests.custody.faults import Fault, kinds
from tests.custody.readiness import NOTICED_S, Span, Verdict, Watch, judge, watched
from tests.custody.rig import Rig, rig
from tests.custody.run import ready

LASTS_S = (8.0, 12.0)
WATCHED_AFTER_S = NOTICED_S + 2.0
FACES_PER_S = 10.0
CAMERA = "hall=test://?fps=5&size=320x240"


async def play_alone(
    folder: Path, s3_program: str, *, seed: int = 0, only: Collection[str] = (), most: int | None = None
) -> list[Verdict]:
    """Play them on all four services and return what each service said of each.

    Args:
        folder: empty.
        s3_program: versitygw.
        seed: what their order and lengths come from.
        only: the kinds of faults that happen; all that stop something by default.
        most: how many of them happen; all by default.
    """
    rng = random.Random(seed)
    make = functools.partial(known_face, "alone")
    async with rig(folder, s3_program, CAMERA) as stage, driving(stage.local.url, make) as driver:
        possible = [fault for fault in kinds(stage) if fault.stops and fault.needs not in stage.missing]
        faults = [fault for fault in possible if not only or fault.name in only]
        rng.shuffle(faults)
        del faults[most or len(faults) :]
        offering = asyncio.create_task(_offer(driver))
        try:
            async with watched(stage) as watch:
                return [verdict for fault in faults for verdict in await _alone(stage, fault, rng, watch)]
        finally:
            offering.cancel()
            await asyncio.gather(offering, return_exceptions=True)


async def _offer(driver: Driver) -> None:
    """Let faces flow without end: trouble with a bucket shows when something is written."""
    for start in itertools.count(0, 1_000):
        await driver.offer(range(start, start + 1_000), FACES_PER_S)


async def _alone(stage: Rig, fault: Fault, rng: random.Random, watch: Watch) -> list[Verdict]:
    await ready(stage)
    await asyncio.sleep(1.0)
    async with fault.happens(stage, rng):
        began_s = time.monotonic()
        await asyncio.sleep(rng.uniform(*LASTS_S))
        healing_s = time.monotonic()
    ended_s = time.monotonic()
    await asyncio.sleep(WATCHED_AFTER_S)
    span = Span(began_s, healing_s, ended_s, time.monotonic())
    return judge(fault.name, fault.stops, watch.changes, span)
