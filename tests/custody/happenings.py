"""What may happen to processes, links, buckets and clocks, for as long as a context lasts."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.custody.proxy import HttpAnswer, Mode, Proxy, Shape
from tests.custody.rig import Part, Rig
from tests.custody.ways import Ways
from tests.support import MosquittoServer

PORTAL = HttpAnswer(
    200, ("Content-Type: text/html",), "<html><title>Welcome to our Wi-Fi</title>Please log in.</html>"
)

Happening = Callable[[Rig, random.Random], AbstractAsyncContextManager[None]]


def killed(*names: str) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        for name in names:
            rig.parts[name].kill()
        yield
        for name in rng.sample(names, len(names)):
            await asyncio.to_thread(rig.parts[name].start)

    return happens


def stopped(name: str) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        pid = pid_of(rig.parts[name])
        os.kill(pid, signal.SIGSTOP)
        yield
        os.kill(pid, signal.SIGCONT)

    return happens


def cut(proxy_of: Callable[[Rig], Proxy | Ways]) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        await proxy_of(rig).refuse()
        yield
        await proxy_of(rig).listen()

    return happens


def swallowed(ways_of: Callable[[Rig], Ways]) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        ways_of(rig).set_mode(Mode.SWALLOW)
        yield
        ways_of(rig).set_mode(Mode.PASS)

    return happens


@asynccontextmanager
async def slowed(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    rig.link.set_shape(
        Shape(bytes_per_s=rng.choice([20_000, 100_000, 400_000]), delay_s=rng.choice([0.05, 0.5]))
    )
    yield
    rig.link.set_shape(None)


@asynccontextmanager
async def flapping(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    async def flap() -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.4))
            rig.link.cut()

    flapping = asyncio.create_task(flap())
    try:
        yield
    finally:
        flapping.cancel()


def answered(*answers: HttpAnswer) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        rig.bucket_link.answer = rng.choice(answers)
        rig.bucket_link.cut()
        yield
        rig.bucket_link.answer = None

    return happens


@asynccontextmanager
async def captive(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    """Whatever leaves the edge or the cloud is answered by a page on which one is to log in."""
    ways = Ways([*rig.link, rig.bucket_link])
    ways.set_answer(PORTAL)
    ways.cut()
    yield
    ways.set_answer(None)


@asynccontextmanager
async def keys_rotated(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """The bucket takes new keys alone, and the store's file has them later."""
    rig.s3.kill()
    rig.s3.key = f"key-{rng.randrange(1_000_000)}"
    await asyncio.to_thread(rig.s3.start)
    yield
    rig.s3.write_keys(rig.keys)


def clock_off(days: int) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        clock = rng.choice([rig.edge_clock, rig.cloud_clock])
        clock.set_days(days)
        yield
        clock.set_days(0)

    return happens


def pid_of(target: Part | MosquittoServer) -> int:
    """Return a part's process."""
    return target.process.pid if isinstance(target, Part) else target.pid
