"""The program in docs/troubleshooting.md that gives faces of 1970 the time that they were taken at."""

import asyncio
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.common.storage.backends import open_store
from services.common.storage.keys import FaceKey
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import Face, mint
from services.common.wire.times import rfc3339
from services.common.wire.topics import Source
from services.store.admission import to_object

ROOT = Path(__file__).parents[2]
WRONG = datetime(1970, 1, 1, 0, 0, 42, 7, tzinfo=UTC)
BY = timedelta(seconds=1_795_599_804.118)


def program() -> str:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    (found,) = re.findall(r"```python\n(# repair\.py .*?)```", text, re.DOTALL)
    return str(found)


def taken(device: str, time: datetime, image: bytes) -> Face:
    return mint(
        Source(device, "front"), time, image, "image/jpeg", {"score": "0.9", "clock": "unsynchronised"}
    )


def repair(url: str) -> None:
    subprocess.run(
        [sys.executable, "-", "1970-01-01", "porch", str(BY.total_seconds())],
        input=program(),
        text=True,
        env={**os.environ, "FACEFERRY_STORE_URL": url, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=100,
    )


async def test_faces_of_1970_get_their_right_time_by_the_documented_program(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/faces"
    settings = ObjectStoreSettings(store_url=url)
    faces = [taken("porch", WRONG + timedelta(seconds=number), b"%d" % number) for number in range(3)]
    other = taken("barn", WRONG, b"another's")
    async with open_store(settings) as objects:
        await objects.verify()
        for face in (*faces, other):
            await objects.put(to_object(face))
    for _run in range(2):
        await asyncio.to_thread(repair, url)
    async with open_store(settings) as objects:
        for face in faces:
            right = taken("porch", face.time + BY, face.image)
            stored = await objects.get(str(FaceKey(right.source, right.id, right.content_type)))
            assert stored.body == face.image
            assert stored.metadata["time"] == rfc3339(right.time)
            assert stored.metadata["id"] == right.id
            assert stored.metadata["score"] == "0.9"
            assert "clock" not in stored.metadata
        days = {entry.key.partition("/")[0] async for entry in objects.entries("") if "=" in entry.key}
        barn = [
            entry.key
            async for entry in objects.entries("")
            if "device=barn" in entry.key and entry.key.endswith("jpg")
        ]
    assert days == {"dt=1970-01-01", f"dt={WRONG + BY:%Y-%m-%d}"}
    assert len(barn) == 1
