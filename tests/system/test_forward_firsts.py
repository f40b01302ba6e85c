"""After an outage everybody's first picture goes before anybody's second, whatever dies on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.wire.faces import Face, mint
from services.common.wire.seen import Why
from services.common.wire.times import from_unix_s
from tests.custody.faces import with_comment
from tests.custody.proxy import Proxy, Shape
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.system.test_forward import CAMERA, Store, neighbours, settings, spooled

VISITS = 30
REASONS = (Why.FIRST, Why.BETTER, Why.CHANGED, Why.BETTER)
"""Of a visit's pictures, in order: the third shows somebody else, perhaps, and is a first one."""
SLOW = Shape(bytes_per_s=250_000, delay_s=0.02)
"""The backlog takes ten seconds."""


def picture(visit: int, shot: int) -> Face:
    number = visit * len(REASONS) + shot
    known = {"box": "1,2,3,4", "visit": f"v-{visit}", "shot": str(shot), "why": REASONS[shot - 1]}
    image = with_comment(number.to_bytes(8) + bytes(20_000))
    return mint(CAMERA, from_unix_s(1_750_000_000 + number / 1000), image, "image/jpeg", known)


PICTURES = [picture(visit, shot) for visit in range(VISITS) for shot in range(1, len(REASONS) + 1)]
IDS = {each.id for each in PICTURES}
LATER = {each.id for each in PICTURES if each.extensions["why"] == "better"}


def order_of_arrival(store: Store) -> list[str]:
    """Ids, each at its first arrival: what was under way when somebody died goes again."""
    return list(dict.fromkeys(store.order))


@asynccontextmanager
async def after_an_outage(
    folder: Path, local: MosquittoServer, cloud: MosquittoServer, shape: Shape | None
) -> AsyncIterator[tuple[ServiceProcess, Store]]:
    """A forward that holds all of them, over a link that has just come back."""
    async with Proxy(cloud.port) as uplink:
        uplink.shape = shape
        await uplink.refuse()
        way = {"FACEFERRY_CLOUD_MQTT_URL": f"mqtt://127.0.0.1:{uplink.port}"}
        forward = ServiceProcess("forward", folder, {**settings(folder, local, cloud), **way}).start()
        try:
            async with neighbours(local, cloud) as (detect, store):
                await detect.publish(PICTURES)
                assert spooled(folder / "spool") == IDS
                await uplink.listen()
                yield forward, store
        finally:
            forward.kill()


@pytest.mark.parametrize("shape", [SLOW, None], ids=["slow", "fast"])
async def test_all_first_pictures_arrive_before_the_later_ones_and_each_is_sent_once(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer, shape: Shape | None
) -> None:
    async with after_an_outage(tmp_path, local, cloud, shape) as (forward, store):
        await eventually(lambda: len(store.arrived) == len(PICTURES), 60)
        first = [each.id for each in PICTURES if each.id not in LATER]
        assert order_of_arrival(store) == first + [each.id for each in PICTURES if each.id in LATER]
        assert {each.id: each for each in PICTURES} == store.arrived
        await eventually(lambda: not spooled(tmp_path / "spool"))
        assert len(store.order) - forward.metric("faceferry_forward_resent_total") <= len(PICTURES)


async def test_killed_among_the_first_ones_and_among_the_later_it_keeps_the_order(
    tmp_path: Path, local: MosquittoServer, cloud: MosquittoServer
) -> None:
    async with after_an_outage(tmp_path, local, cloud, SLOW) as (forward, store):
        for arrived in (len(PICTURES) // 4, 3 * len(PICTURES) // 4):
            await eventually(lambda arrived=arrived: len(store.arrived) >= arrived, 60)  # type: ignore[misc]
            forward.kill()
            assert len(store.arrived) < arrived + len(PICTURES) // 4
            await asyncio.sleep(0.5)
            forward.start()
        await eventually(lambda: len(store.arrived) == len(PICTURES), 60)
        order = order_of_arrival(store)
        assert set(order) == IDS
        assert {*order[len(IDS) - len(LATER) :]} == LATER
        await eventually(lambda: not spooled(tmp_path / "spool"))
