"""What may happen to the brokers in the cloud, and to what lies between them."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.custody.proxy import Mode, Proxy
from tests.custody.rig import Rig
from tests.support import MosquittoServer, wait_for_port

START_LIMIT_S = 90.0
USED = 0.7
"""How often it is the broker that forward uses, where there are several."""


def victim(rig: Rig, rng: random.Random) -> int:
    """Return the number of a broker: often that by which the last face went, or else any."""
    return rig.tap.last if rng.random() < USED else rng.randrange(len(rig.clouds.brokers))


@asynccontextmanager
async def killed(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """One is killed, and comes back with nothing of what it had in memory."""
    async with _away(rig, [victim(rig, rng)]):
        yield


@asynccontextmanager
async def two_killed(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """The broker that forward uses is killed, and so is that to which it could go."""
    used = rig.tap.last
    others = [at for at in range(len(rig.clouds.brokers)) if at != used]
    async with _away(rig, [used, rng.choice(others)]):
        yield


@asynccontextmanager
async def stopped(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """One hangs, and later goes on as if nothing had been."""
    pid = rig.clouds.brokers[victim(rig, rng)].pid
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def cut_off(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """Nobody gets to one any more, neither forward nor store nor the other nodes."""
    ways = _ways_to(rig, victim(rig, rng))
    for each in ways:
        await each.refuse()
    yield
    for each in ways:
        await each.listen()


@asynccontextmanager
async def swallowed(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """Whatever is sent to one gets lost, and nobody says so."""
    ways = _ways_to(rig, victim(rig, rng))
    for each in ways:
        each.mode = Mode.SWALLOW
    yield
    for each in ways:
        each.mode = Mode.PASS


@asynccontextmanager
async def apart(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    """The nodes of a cluster do not reach each other."""
    for each in rig.clouds.between:
        await each.refuse()
    yield
    for each in rig.clouds.between:
        await each.listen()


@asynccontextmanager
async def _away(rig: Rig, numbers: Sequence[int]) -> AsyncIterator[None]:
    brokers = [rig.clouds.brokers[at] for at in numbers]
    for each in brokers:
        each.kill()
    yield
    for each in brokers:
        await asyncio.to_thread(each.start)
        await asyncio.to_thread(wait_for_port, each.port, START_LIMIT_S)


def _ways_to(rig: Rig, at: int) -> list[Proxy]:
    return [ways[at] for ways in (rig.link, rig.inward, rig.clouds.between) if at < len(ways)]


@asynccontextmanager
async def small_packets(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """The cloud broker comes back with a limit that some faces are above, and later with its own again."""
    broker = rig.cloud
    config = broker.config.read_text()
    lower = rng.choice([16_000, 30_000, 60_000])
    await _restart(broker, f"{_without(config, 'max_packet_size')}max_packet_size {lower}\n")
    yield
    await _restart(broker, config)


async def _restart(broker: MosquittoServer, config: str) -> None:
    broker.kill()
    broker.config.write_text(config)
    await asyncio.to_thread(broker.start)


def _without(config: str, name: str) -> str:
    return "".join(f"{line}\n" for line in config.splitlines() if not line.startswith(name))
