"""Three brokers that know nothing of each other are killed and frozen in turn while faces flow."""

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest

from services.common.mqtt import Broker, Link
from tests.storing import images_in
from tests.support import MosquittoServer, eventually
from tests.system.test_forward import DEVICE, Detect, face
from tests.system.test_several_brokers import Site, site, until_all_is_up

__all__ = ["site"]

FACES = int(os.environ.get("FACEFERRY_TEST_BROKER_FACES", "600"))
FAULTS = int(os.environ.get("FACEFERRY_TEST_BROKER_FAULTS", "10"))
SECONDS_EACH = 4.0
BURST = 20


async def fault(broker: MosquittoServer, rng: random.Random) -> str:
    """Take a broker away for a while, and give it back."""
    lasts_s = rng.uniform(0.5, 2 * SECONDS_EACH)
    if rng.random() < 0.5:
        broker.kill()
        await asyncio.sleep(lasts_s)
        await asyncio.to_thread(broker.start)
        return "killed"
    os.kill(broker.pid, signal.SIGSTOP)
    await asyncio.sleep(lasts_s)
    os.kill(broker.pid, signal.SIGCONT)
    return "frozen"


@pytest.mark.timeout(120 + 4 * FAULTS * SECONDS_EACH)
async def test_each_face_arrives_once_whatever_happens_to_the_brokers(site: Site) -> None:
    rng = random.Random(23)
    await until_all_is_up(site)
    topics = [f"faceferry/{DEVICE}/taken"]
    async with (
        Link("local", Broker(site.local.url), identity="t", subscriptions=topics) as link,
        asyncio.TaskGroup() as tasks,
    ):
        detect = Detect(link)
        receiving = tasks.create_task(detect.run())
        await link.wait_up()

        async def flow() -> None:
            for start in range(0, FACES, BURST):
                await detect.publish(
                    [face(number) for number in range(start, min(start + BURST, FACES))], 120
                )
                await asyncio.sleep(FAULTS * SECONDS_EACH * BURST / FACES)

        flowing = tasks.create_task(flow())
        happened = [
            await fault(site.used() if site.is_forward_up() else rng.choice(site.clouds), rng)
            for _ in range(FAULTS)
        ]
        await flowing
        receiving.cancel()
    wanted = {face(number).id for number in range(FACES)}
    await eventually(lambda: wanted <= {Path(name).stem for name in images_in(site.folder)}, 90)
    stored = images_in(site.folder)
    assert {Path(name).stem for name in stored} == wanted
    assert len(stored) == FACES
    again = site.forward.metric("faceferry_forward_sent_total") - FACES
    # Each fault takes the broker that is used, in the midst of a burst; no more than that is sent again.
    assert again <= BURST * FAULTS, f"{again:.0f} of {FACES} sent again over {happened}"
