"""What may go wrong, by name: it starts when its context is entered and is healed when that is left."""

import asyncio
import errno
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.custody.proxy import HttpAnswer, Mode, Proxy, Shape
from tests.custody.rig import Part, Rig
from tests.support import MosquittoServer

Happening = Callable[[Rig, random.Random], AbstractAsyncContextManager[None]]

LONGER_THAN_KEEP_ALIVE_S = (23.0, 26.0)
"""A broker gives a client up after one and a half of its keep-alive times, which are 15 s."""
_QUICK_S = (0.2, 2.0)
_TROUBLE_S = (1.0, 4.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: what reports call it.
        targets: what it touches; faults that run at one time touch different things.
        happens: starts it when entered, heals it when left.
        lasts_s: the shortest and the longest it lasts.
        needs: what a machine may lack for it, see `Rig.missing`.
    """

    name: str
    targets: frozenset[str]
    happens: Happening
    lasts_s: tuple[float, float] = _TROUBLE_S
    needs: str | None = None

    @property
    def is_slow(self) -> bool:
        """Whether it takes so long that a short run has room for one of it only."""
        return self.lasts_s[0] > 10


def _killed(*names: str) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        for name in names:
            rig.parts[name].kill()
        yield
        for name in rng.sample(names, len(names)):
            await asyncio.to_thread(rig.parts[name].start)

    return happens


def _stopped(name: str) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        pid = _pid(rig.parts[name])
        os.kill(pid, signal.SIGSTOP)
        yield
        os.kill(pid, signal.SIGCONT)

    return happens


def _cut(proxy_of: Callable[[Rig], Proxy]) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        await proxy_of(rig).refuse()
        yield
        await proxy_of(rig).listen()

    return happens


def _swallowed(proxy_of: Callable[[Rig], Proxy]) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
        proxy_of(rig).mode = Mode.SWALLOW
        yield
        proxy_of(rig).mode = Mode.PASS

    return happens


@asynccontextmanager
async def _slowed(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    rig.link.shape = Shape(
        bytes_per_s=rng.choice([20_000, 100_000, 400_000]), delay_s=rng.choice([0.05, 0.5])
    )
    yield
    rig.link.shape = None


@asynccontextmanager
async def _flapping(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    async def flap() -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.4))
            rig.link.cut()

    flapping = asyncio.create_task(flap())
    try:
        yield
    finally:
        flapping.cancel()


def _answered(*answers: HttpAnswer) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        rig.bucket_link.answer = rng.choice(answers)
        rig.bucket_link.cut()
        yield
        rig.bucket_link.answer = None

    return happens


@asynccontextmanager
async def _disk_full(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    filler = rig.spool / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(64 * 1024))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    yield
    filler.unlink()


def _clock_off(days: int) -> Happening:
    @asynccontextmanager
    async def happens(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
        clock = rng.choice([rig.edge_clock, rig.cloud_clock])
        clock.set_days(days)
        yield
        clock.set_days(0)

    return happens


def _link(rig: Rig) -> Proxy:
    return rig.link


def _bucket_link(rig: Rig) -> Proxy:
    return rig.bucket_link


def _fault(name: str, targets: str, happens: Happening, **more: object) -> Fault:
    return Fault(name, frozenset(targets.split()), happens, **more)  # type: ignore[arg-type]


_THROTTLED = HttpAnswer(503, "SlowDown")
_UNAVAILABLE = HttpAnswer(503, "ServiceUnavailable")
_DENIED = HttpAnswer(403, "AccessDenied")
_EXPIRED = HttpAnswer(403, "ExpiredToken")

EDGE = ("local", "forward", "detect", "capture")


def kinds(rig: Rig) -> tuple[Fault, ...]:
    """Return every kind of fault, of those parts that a rig has."""
    edge = [name for name in EDGE if name in rig.parts]
    cameras = [name for name in ("detect", "capture") if name in rig.parts]
    return (
        _fault("forward killed", "forward", _killed("forward"), lasts_s=_QUICK_S),
        _fault("store killed", "store", _killed("store"), lasts_s=_QUICK_S),
        _fault("local broker killed", "local", _killed("local"), lasts_s=_QUICK_S),
        _fault("cloud broker killed", "cloud", _killed("cloud"), lasts_s=_QUICK_S),
        *(_fault(f"{name} killed", name, _killed(name), lasts_s=_QUICK_S) for name in cameras),
        _fault("all of the edge killed", " ".join(edge), _killed(*edge), lasts_s=_QUICK_S),
        _fault("link cut", "link", _cut(_link)),
        _fault("link half-open", "link", _swallowed(_link)),
        _fault("link slow", "link", _slowed),
        _fault("link flapping", "link", _flapping),
        _fault("bucket answers 503", "bucket", _answered(_THROTTLED, _UNAVAILABLE)),
        _fault("bucket answers 403", "bucket", _answered(_DENIED, _EXPIRED)),
        _fault("bucket hangs", "bucket", _swallowed(_bucket_link)),
        _fault("bucket refuses connections", "bucket", _cut(_bucket_link)),
        _fault("forward stopped", "forward", _stopped("forward"), lasts_s=LONGER_THAN_KEEP_ALIVE_S),
        _fault("store stopped", "store", _stopped("store"), lasts_s=LONGER_THAN_KEEP_ALIVE_S),
        _fault("cloud broker stopped", "cloud", _stopped("cloud"), lasts_s=LONGER_THAN_KEEP_ALIVE_S),
        _fault("spool's disk full", "disk", _disk_full, needs="disk"),
        _fault("clock a day back", "clock", _clock_off(-1), needs="clock"),
        _fault("clock a day ahead", "clock", _clock_off(1), needs="clock"),
    )


def deck(rng: random.Random, count: int, rig: Rig) -> list[Fault]:
    """Return `count` faults in random order: each quick kind that can be made here, and then more of them.

    One in forty is a slow one, any of them, and stands in the first two thirds, where others run beside it.
    """
    possible = [fault for fault in kinds(rig) if fault.needs not in rig.missing]
    quick = [fault for fault in possible if not fault.is_slow]
    slow = [fault for fault in possible if fault.is_slow]
    rng.shuffle(slow)
    slow_count = count // 40
    faults = quick + rng.choices(quick, k=max(0, count - len(quick) - slow_count))
    rng.shuffle(faults)
    for number in range(slow_count):
        faults.insert(rng.randrange(len(faults) * 2 // 3), slow[number % len(slow)])
    return faults


def _pid(target: Part | MosquittoServer) -> int:
    return target.process.pid if isinstance(target, Part) else target.pid
