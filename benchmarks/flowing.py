"""Good faces that flow through a forward whose spool also holds what it cannot deliver."""

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.draining import Receiver
from services.common.faces import Face, encode_face
from services.common.mqtt import Broker, Link, LinkDown
from services.forward.holdings import look
from tests.custody import damage
from tests.custody.damage import Row
from tests.custody.faces import DEVICE
from tests.custody.rig import PASSWORD
from tests.custody.undeliverable import broker_rules, fill
from tests.support import MosquittoServer, ServiceProcess, eventually

MOST_AHEAD = 300
"""Live faces on their way at one time: enough to keep forward busy, too few to fill a queue."""
GIVE_UP_S = 60.0
SPOOL = "spool"


@dataclass(frozen=True, slots=True)
class Flow:
    """How good faces went through.

    Attributes:
        finding_per_s: those that waited in the spool, from the first to arrive to the last, while what cannot
            be delivered is found among them.
        live_per_s: those published afterwards as fast as they go, likewise.
        knowing_per_s: those of another backlog after that, with all that cannot be delivered set aside.
        missing: those that did not arrive in a minute; the rates are then those of what arrived until then.
    """

    finding_per_s: float
    live_per_s: float
    knowing_per_s: float
    missing: int


async def prepare(folder: Path, good: Sequence[Face], bad: Sequence[Row]) -> None:
    """Have forward make a spool in a folder, and fill it, the bad faces among the good ones."""
    broker = MosquittoServer(folder).start()
    nobody = MosquittoServer(folder)  # never started
    forward = ServiceProcess("forward", folder, _settings(folder, broker, nobody)).start()
    try:
        await eventually(lambda: "mqtt.link_up" in forward.log, 20)
    finally:
        forward.kill()
        broker.kill()
    path = folder / SPOOL / damage.DATABASE
    damage.settle(path)
    fill(path, good, bad, random.Random(1))
    damage.settle(path)


async def flow(prepared: Path, good: Sequence[Face], live: Sequence[Face], later: Sequence[Face]) -> Flow:
    """Let the good faces of a prepared spool flow, then live ones, then a later backlog; a copy is used."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        shutil.copytree(prepared / SPOOL, folder / SPOOL)
        os.sync()  # else the kernel writes the copy while rates are counted, and a larger one for longer
        async with _running(folder) as (receiver, local, forward):
            forward.start()
            finding_per_s, unfound = await _arrive(receiver, good)
            await local.wait_up()
            await eventually(lambda: forward.log.count("mqtt.link_up") >= 2, 20)
            publishing = asyncio.create_task(_publish(local, receiver, live))
            live_per_s, unseen = await _arrive(receiver, live)
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            path = folder / SPOOL / damage.DATABASE
            await eventually(lambda: look(folder / SPOOL, time.time()).faces == 0, GIVE_UP_S)
            forward.kill()
            damage.settle(path)
            damage.add(path, map(damage.as_row, later))
            damage.settle(path)
            forward.start()
            knowing_per_s, left = await _arrive(receiver, later)
            return Flow(finding_per_s, live_per_s, knowing_per_s, unfound + unseen + left)


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[tuple[Receiver, Link, ServiceProcess]]:
    async with AsyncExitStack() as stack:
        local, cloud = MosquittoServer(folder), MosquittoServer(folder, broker_rules(folder))
        for server in (local, cloud):
            stack.callback(server.kill)
            server.start()
        receiver = Receiver(cloud.url)
        await stack.enter_async_context(receiver.link)
        receiving = asyncio.create_task(receiver.run())
        stack.callback(receiving.cancel)
        await receiver.link.wait_up()
        link = await stack.enter_async_context(Link("local", Broker(local.url), identity="detect"))
        forward = ServiceProcess("forward", folder, _settings(folder, local, cloud))
        stack.callback(forward.kill)
        yield receiver, link, forward


async def _arrive(receiver: Receiver, faces: Sequence[Face]) -> tuple[float, int]:
    """Wait until faces have arrived; return their rate from the first to the last, and how many did not."""
    wanted = {face.id for face in faces}
    with contextlib.suppress(TimeoutError):
        await eventually(lambda: wanted <= receiver.arrived_s.keys(), GIVE_UP_S)
    arrived_s = sorted(receiver.arrived_s[face_id] for face_id in wanted & receiver.arrived_s.keys())
    missing = len(wanted) - len(arrived_s)
    if not arrived_s:
        return 0.0, missing
    last_s = time.monotonic() if missing else arrived_s[-1]
    return (len(arrived_s) - 1) / max(last_s - arrived_s[0], 1e-9), missing


async def _publish(link: Link, receiver: Receiver, faces: Sequence[Face]) -> None:
    """Publish faces in order, with so many ahead of those that have arrived."""
    before = len(receiver.arrived_s)
    for number, face in enumerate(faces):
        while number - (len(receiver.arrived_s) - before) >= MOST_AHEAD:  # noqa: ASYNC110 - it is counted elsewhere
            await asyncio.sleep(0.002)
        with contextlib.suppress(LinkDown):  # it is then missing, and said to be
            link.publish(encode_face(face))


def _settings(folder: Path, local: MosquittoServer, cloud: MosquittoServer) -> dict[str, str]:
    return {
        "FACEFERRY_DEVICE": DEVICE,
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": f"mqtt://{DEVICE}@127.0.0.1:{cloud.port}",
        "FACEFERRY_CLOUD_MQTT_PASSWORD": PASSWORD,
        "FACEFERRY_SPOOL_PATH": str(folder / SPOOL),
    }
