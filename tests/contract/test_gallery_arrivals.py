"""From a receipt on a real broker to an event of a page, and what is lost on the way, counted."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from services.common.mqtt import Broker, Link
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoreUnavailable
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.receipts import encode_stored
from services.common.wire.status import reason_attributes
from services.gallery import arrivals as module
from services.gallery.arrivals import MAX_ANNOUNCED, Arrivals
from tests.seeing import CAMERAS, NOON, fill, gallery_process, taken
from tests.support import MosquittoServer, eventually


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("faceferry_gallery_dropped_total", {"reason": reason}) or 0.0


@asynccontextmanager
async def announcing(store: FolderStore) -> AsyncIterator[tuple[Arrivals, list[list[FaceKey]]]]:
    told: list[list[FaceKey]] = []
    arrivals = Arrivals(store, told.append)
    task = asyncio.create_task(arrivals.run(0.01))
    yield arrivals, told
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def ids(faces: list[Face]) -> list[str]:
    return [face.id for face in faces]


async def test_faces_are_announced_with_their_camera_and_others_are_not(tmp_path: Path) -> None:
    faces = [taken(NOON + timedelta(seconds=number), CAMERAS[number % 2]) for number in range(6)]
    fill(tmp_path, faces)
    with FolderStore(tmp_path) as store:
        async with announcing(store) as (arrivals, told):
            arrivals.note("porch", [faces[1].id, faces[4].id, taken(NOON, number=9).id])
            await eventually(lambda: told)
    assert [(key.id, key.source) for key in told[0]] == [(faces[i].id, faces[i].source) for i in (1, 4)]


async def test_of_very_many_the_newest_are_announced_and_the_rest_is_counted(tmp_path: Path) -> None:
    faces = [taken(NOON + timedelta(seconds=number)) for number in range(MAX_ANNOUNCED + 5)]
    fill(tmp_path, faces)
    before = dropped("too_many_at_once")
    with FolderStore(tmp_path) as store:
        async with announcing(store) as (arrivals, told):
            arrivals.note("porch", ids(faces))
            await eventually(lambda: told)
    assert [key.id for key in told[0]] == ids(faces)[5:]
    assert dropped("too_many_at_once") == before + 5


async def test_a_slow_store_bounds_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NOTED", 3)
    before = dropped("slow_store")
    with FolderStore(tmp_path) as store:
        Arrivals(store, print).note("porch", ids([taken(NOON, number=number) for number in range(5)]))
    assert dropped("slow_store") == before + 2


async def test_a_store_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    class Moody(FolderStore):
        is_down = True

        async def folders(self, folder: str, **bounds: Any) -> list[str]:
            if self.is_down:
                raise StoreUnavailable("throttled")
            return await super().folders(folder, **bounds)

    face = taken(NOON)
    fill(tmp_path, [face])
    before = dropped("throttled")
    with Moody(tmp_path) as store:
        async with announcing(store) as (arrivals, told):
            arrivals.note("porch", [face.id])
            await eventually(lambda: dropped("throttled") == before + 1)
            store.is_down = False
            arrivals.note("porch", [face.id])
            await eventually(lambda: told)


async def test_a_receipt_and_a_state_reach_an_open_page(tmp_path: Path, broker: MosquittoServer) -> None:
    face = taken(NOON)
    fill(tmp_path / "faces", [face])
    async with gallery_process(tmp_path, broker.url) as (gallery, port):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/events") as events,
            Link("cloud", Broker(broker.url), identity="test") as link,
        ):
            await link.wait_up()
            for topic in ("faceferry/a/b/c/status", "faceferry/porch/front/status"):
                link.publish(Message(topic=topic, payload=b"what", qos=1))
            link.publish(
                Message(
                    topic="faceferry/porch/front/status",
                    payload=b"stalled",
                    qos=1,
                    retain=True,
                    attributes=reason_attributes("stalled"),
                )
            )
            link.publish(Message(topic="faceferry/porch/stored", payload=b'{"ids": 1}', qos=1))
            link.publish(encode_stored("porch", [face.id], {}))
            await events.content.readuntil(b"\n\n")
            status = await events.content.readuntil(b"\n\n")
            news = json.loads(status.partition(b"data: ")[2])
            assert (news["source"], news["state"]) == ("porch/front", "stalled")
            assert news["reason"].startswith("Its pictures stopped.")
            told = await events.content.readuntil(b"\n\n")
            assert json.loads(told.partition(b"data: ")[2])[0]["id"] == face.id
        assert gallery.metric("faceferry_gallery_refused_total") >= 2
        assert gallery.stop() == 0
