"""A store that keeps faces for some days, as its users run it."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.common.mqtt import Link
from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.common.wire.faces import Face
from services.store import sweep_job
from services.store.settings import StoreSettings
from tests.storing import PORCH, StoreProcess, images_in, jpeg, put, receipted
from tests.support import MosquittoServer, S3Server, eventually

NOW = datetime.now(UTC)


def taken(days_ago: float, number: int = 0) -> Face:
    return faces.mint(PORCH, NOW - timedelta(days=days_ago), jpeg(number), "image/jpeg", {})


async def keys(url: str) -> list[str]:
    async with open_store(ObjectStoreSettings(store_url=url)) as objects:
        return [copy.key async for copy in objects.copies("") if copy.key.endswith(".jpg")]


def retain(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its users do."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "retain", "--store", url, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_a_face_that_comes_too_late_is_receipted_as_refused_counted_and_never_stored(
    broker: MosquittoServer, edge: Link, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    log = tmp_path / "store.log"
    with StoreProcess(broker.url, folder.as_uri(), log, FACEFERRY_RETAIN_DAYS="30") as store:
        await store.until_ready()
        late, early = [taken(31 + number, number) for number in range(5)], taken(29)
        for face in (*late, early):
            edge.publish(faces.encode_face(face))
        receipt = await receipted(edge, 6)
        assert receipt.ids == {early.id}
        assert receipt.refused == {face.id: "expired" for face in late}
        assert [path.rpartition("/")[2] for path in images_in(folder)] == [f"{early.id}.jpg"]
        assert store.metric("faceferry_store_refused_total") == 5


async def test_the_job_beside_the_store_removes_what_becomes_too_old(
    broker: MosquittoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job itself, with a clock that has gone evenly for a while already."""
    folder = tmp_path / "faces"
    await put(folder.as_uri(), taken(31), young := taken(29, 1))
    monkeypatch.setattr(sweep_job, "SettledClock", _Settled)
    settings = StoreSettings(cloud_mqtt_url=broker.url, store_url=folder.as_uri(), retain_days="30")
    job = asyncio.create_task(sweep_job.sweep_regularly(settings, every_s=0.1))
    await eventually(lambda: len(images_in(folder)) == 1)
    job.cancel()
    await asyncio.wait([job])
    assert next(iter(images_in(folder))).endswith(f"{young.id}.jpg")


async def test_nobody_removes_anything_by_a_clock_that_was_just_started(
    broker: MosquittoServer, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    await put(folder.as_uri(), taken(31))
    settings = StoreSettings(cloud_mqtt_url=broker.url, store_url=folder.as_uri(), retain_days="30")
    job = asyncio.create_task(sweep_job.sweep_regularly(settings, every_s=0.1))
    await asyncio.sleep(1.0)
    job.cancel()
    await asyncio.wait([job])
    assert len(images_in(folder)) == 1


class _Settled:
    def time(self, wall_s: float, _steady_s: float) -> datetime:
        return datetime.fromtimestamp(wall_s, UTC)


async def test_the_command_says_what_is_too_old_and_removes_it_when_it_is_told_to(url: str) -> None:
    await put(url, taken(31), taken(29, 1))
    checked = retain(url, "--check", FACEFERRY_RETAIN_DAYS="30")
    assert checked.returncode == 1
    assert "FIX  too old" in checked.stdout
    assert "has none: the store removes" in checked.stdout
    assert len(await keys(url)) == 2
    applied = retain(url, "--apply", FACEFERRY_RETAIN_DAYS="30")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "removed" in applied.stdout
    assert [taken(29, 1).id in key for key in await keys(url)] == [True]
    assert retain(url, "--check", FACEFERRY_RETAIN_DAYS="30").returncode == 0


async def test_for_how_long_has_to_be_said(tmp_path: Path) -> None:
    url = (tmp_path / "faces").as_uri()
    await put(url, taken(999))
    told = retain(url, "--check")
    assert told.returncode == 2
    assert "FACEFERRY_RETAIN_DAYS" in told.stderr
    assert retain(url, "--apply", "--days", "forever").returncode == 0
    assert len(await keys(url)) == 1
    assert retain(url, "--check", "--days", "always").returncode == 2


async def test_a_store_that_is_not_there_is_said_in_one_line(s3: S3Server, tmp_path: Path) -> None:
    told = retain("s3://nowhere", "--check", "--days", "30", **s3.environment)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
    told = retain((tmp_path / "none").as_uri(), "--check", "--days", "30")
    assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
