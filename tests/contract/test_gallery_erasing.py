"""Faces are erased from their pages by who has the second token, and by nobody else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import ValidationError

from services.common.erasure import keys
from services.common.erasure.erasing import Eraser
from services.common.erasure.ledger import Ledger, LedgerFollower
from services.common.erasure.selection import Selection
from services.common.storage.folder import FolderStore
from services.common.storage.keys import FaceKey
from services.common.wire.faces import Face
from services.gallery.erasing import Erasing
from services.gallery.service import forget_all, make_app
from services.gallery.site import Context
from services.store.admission import to_object
from tests.remains import picture, remains
from tests.seeing import NOON, TOKEN, fill, pictured, seen, settings_for, taken, visit_id
from tests.support import eventually

ERASE_TOKEN = "the second token, a long one"  # noqa: S105
PRIVATE = keys.make().decode()
Client = TestClient[Any, Any]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[tuple[Client, Context, Path]]:
    """A gallery with both tokens, and what it looks at, over a folder."""
    root = tmp_path / "faces"
    given = {"gallery_token": TOKEN, "gallery_erase_token": ERASE_TOKEN, "erase_signing_key": PRIVATE}
    with FolderStore(root) as store:
        await store.verify()
        async with seen(store) as plain:
            erasing = Erasing(store, ERASE_TOKEN, keys.signer(PRIVATE), settle_s=0.0)
            sight = replace(plain, erasing=erasing)
            running = asyncio.create_task(erasing.run(sight.forget))
            async with TestClient(TestServer(make_app(settings_for(root, **given), sight))) as client:
                yield client, sight, root
            running.cancel()
            await asyncio.wait([running])


def stored(root: Path) -> set[str]:
    return {path.stem for path in root.rglob("*.jpg")}


def key_of(face: Face) -> str:
    return to_object(face).key


async def post(client: Client, path: str, token: str, **headers: str) -> int:
    async with client.post(path, data={"token": token}, headers=BEARER | headers) as answer:
        return answer.status


async def test_a_face_and_a_visit_go_for_who_has_the_second_token(page: tuple[Client, Context, Path]) -> None:
    client, _, root = page
    visit = visit_id(NOON)
    of_visit = [pictured(visit, NOON + timedelta(seconds=number)) for number in range(3)]
    other, kept = taken(NOON + timedelta(hours=1)), taken(NOON + timedelta(hours=2))
    fill(root, [*of_visit, other, kept])
    async with client.get(f"/visit/{key_of(of_visit[0])}", headers=BEARER) as answer:
        assert "/erase/visit/" in await answer.text()
    async with client.get(f"/erase/visit/{key_of(of_visit[0])}", headers=BEARER) as answer:
        assert "Erase 3 faces for good" in await answer.text()
    for wrong in ("", "x", TOKEN):
        assert await post(client, f"/erase/visit/{key_of(of_visit[0])}", wrong) == 403
    async with client.post(f"/erase/face/{key_of(other)}", data={"token": ERASE_TOKEN}) as answer:
        assert answer.status == 401  # who may not look may not erase either
    assert len(stored(root)) == 5
    assert await post(client, f"/erase/visit/{key_of(of_visit[0])}", ERASE_TOKEN) == 202
    await eventually(lambda: stored(root) == {other.id, kept.id})
    assert await post(client, f"/erase/face/{key_of(other)}", ERASE_TOKEN) == 202
    await eventually(lambda: stored(root) == {kept.id})
    with FolderStore(root) as store:
        ledger = Ledger(store, keys.signer(PRIVATE)[1])
        async with asyncio.timeout(30):
            while len(await ledger.entries()) < 6:  # noqa: ASYNC110 - ordered, found, erased, of each
                await asyncio.sleep(0.01)


async def test_the_gallery_forgets_what_was_erased_whoever_ordered_it(
    page: tuple[Client, Context, Path],
) -> None:
    client, sight, root = page
    visit = visit_id(NOON)
    gone, kept = pictured(visit, NOON), taken(NOON + timedelta(hours=1))
    fill(root, [gone, kept])
    for face in (gone, kept):
        async with client.get(f"/face/{key_of(face)}", headers=BEARER) as answer:
            assert answer.status == 200
    assert len(sight.lookup) == 2
    with FolderStore(root) as store:
        sign, verify = keys.signer(PRIVATE)
        eraser = Eraser(store, Ledger(store, verify), sign, settle_s=0.0)
        await eraser.carry_out(await eraser.order(Selection(visit=visit)))
        forget_all(sight, await LedgerFollower(store, verify).look())
    assert not sight.lookup.knows(FaceKey(gone.source, gone.id, gone.content_type))
    assert sight.lookup.knows(FaceKey(kept.source, kept.id, kept.content_type))
    async with client.get(f"/image/{key_of(gone)}", headers=BEARER) as answer:
        assert answer.status == 404


async def test_what_was_ordered_before_is_finished_when_it_starts(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    face = replace(taken(NOON), image=picture(1))
    with FolderStore(root) as store:
        await store.verify()
        sign, verify = keys.signer(PRIVATE)
        fill(root, [face])
        await Eraser(store, Ledger(store, verify), sign).order(Selection(ids=frozenset({face.id})))
        assert remains(root, [1])
        erasing = Erasing(store, ERASE_TOKEN, (sign, verify), settle_s=0.0)
        done = asyncio.Event()
        running = asyncio.create_task(erasing.run(lambda _order: done.set()))
        async with asyncio.timeout(30):
            await done.wait()
        running.cancel()
        await asyncio.wait([running])
    assert remains(root, [1]) == {}


async def test_without_a_second_token_nothing_can_be_erased(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    face = taken(NOON)
    fill(root, [face])
    with FolderStore(root) as store:
        async with (
            seen(store) as sight,
            TestClient(TestServer(make_app(settings_for(root, gallery_token=TOKEN), sight))) as client,
        ):
            assert await post(client, f"/erase/face/{key_of(face)}", ERASE_TOKEN) == 404
            async with client.get(f"/face/{key_of(face)}", headers=BEARER) as answer:
                assert "/erase/" not in await answer.text()


@pytest.mark.parametrize(
    "given",
    [
        {"gallery_erase_token": ERASE_TOKEN},
        {"erase_signing_key": PRIVATE},
        {"gallery_erase_token": "short", "erase_signing_key": PRIVATE},
        {"gallery_erase_token": TOKEN, "erase_signing_key": PRIVATE},
        {"gallery_erase_token": ERASE_TOKEN, "erase_signing_key": "x"},
    ],
)
def test_settings_that_make_no_sense_are_said_without_their_content(
    tmp_path: Path, given: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match="ERASE") as told:
        settings_for(tmp_path, gallery_token=TOKEN, **given)
    assert all(value not in told.value.errors()[0]["msg"] for value in given.values() if len(value) > 5)
