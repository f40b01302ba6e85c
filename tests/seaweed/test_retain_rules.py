"""`faceferry retain` on a real server that has life-cycle rules, whose days last ten seconds."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aioboto3
import pytest

from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.store.admission import to_object
from tests.seaweed.server import DAY_S, SeaweedServer
from tests.storing import PORCH, jpeg

FOREIGN = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9_000}}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def retain(bucket: str, what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "services.cli",
            "retain",
            "--store",
            f"s3://{bucket}/home",
            "--days",
            "1",
            what,
        ],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("is_versioned", [False, True], ids=["plain", "versioned"])
async def test_the_servers_own_rules_take_the_faces_with_all_versions_and_nothing_else(
    server: SeaweedServer, *, is_versioned: bool
) -> None:
    session = aioboto3.Session()
    url = server.environment["FACEFERRY_S3_ENDPOINT_URL"]
    async with session.client("s3", endpoint_url=url, region_name="us-east-1") as s3:
        await s3.create_bucket(Bucket="faces")
        if is_versioned:
            await s3.put_bucket_versioning(Bucket="faces", VersioningConfiguration={"Status": "Enabled"})
        rules = {"Rules": [FOREIGN]}
        await s3.put_bucket_lifecycle_configuration(Bucket="faces", LifecycleConfiguration=rules)  # type: ignore[arg-type]
        await s3.put_object(Bucket="faces", Key="home/other.txt", Body=b"mine")
        await _put_faces()
        checked = retain("faces", "--check")
        assert (checked.returncode, "FIX  rules" in checked.stdout) == (1, True), checked.stdout
        for what in ("--apply", "--check"):
            told = retain("faces", what)
            assert told.returncode == 0, told.stdout + told.stderr
        found = await s3.get_bucket_lifecycle_configuration(Bucket="faces")
        assert "logs" in {rule.get("ID") for rule in found["Rules"]}
    assert len(await _left()) >= 3
    for _ in range(4 if is_versioned else 2):
        await asyncio.sleep(DAY_S + 1)
        server.obey_rules()
    assert await _left() == {"other.txt", ".faceferry/probe"}


async def _put_faces() -> None:
    now = datetime.now(UTC)
    async with open_store(ObjectStoreSettings(store_url="s3://faces/home")) as objects:
        await objects.verify()
        for hours in (1, 2):
            face = faces.mint(PORCH, now - timedelta(hours=hours), jpeg(hours), "image/jpeg", {})
            await objects.put(to_object(face))


async def _left() -> set[str]:
    async with open_store(ObjectStoreSettings(store_url="s3://faces/home")) as objects:
        return {copy.key async for copy in objects.copies("")}
