"""`faceferry erase` as its users run it."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.common.erasure import keys
from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.common.wire.faces import Face
from tests.storing import PORCH, jpeg, put

NOW = datetime.now(UTC)


def taken(minutes_ago: float) -> Face:
    return faces.mint(PORCH, NOW - timedelta(minutes=minutes_ago), jpeg(), "image/jpeg", {})


async def stored(url: str) -> set[str]:
    async with open_store(ObjectStoreSettings(store_url=url)) as objects:
        return {
            copy.key.rpartition("/")[2][:-4] async for copy in objects.copies("") if copy.key.endswith(".jpg")
        }


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = keys.make()
    (tmp_path / "erase.key").write_bytes(private)
    (tmp_path / "erase.pub").write_bytes(keys.public_of(private.decode()))
    return tmp_path / "erase.key"


def erase(url: str, key: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    files = ["--key", str(key), "--public-key", str(key.with_name("erase.pub"))]
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "erase", "--store", url, *files, "--settle", "0", *arguments],
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_faces_are_erased_after_a_look_and_the_log_shows_each_byte_that_is_another(
    url: str, key: Path, tmp_path: Path
) -> None:
    one, other, kept = taken(3), taken(2), taken(1)
    await put(url, one, other, kept)
    looked = erase(url, key, one.id, other.id, "--dry-run")
    assert (looked.returncode, "2 faces" in looked.stdout) == (0, True), looked
    assert await stored(url) == {one.id, other.id, kept.id}
    asked = erase(url, key, one.id)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True), asked
    done = erase(url, key, one.id, other.id, "--yes")
    assert (done.returncode, "nothing is left" in done.stdout) == (0, True), done
    assert await stored(url) == {kept.id}
    assert "done in the store" in erase(url, key, "--status").stdout

    log = tmp_path / "log"
    log.write_text(erase(url, key, "--log").stdout)
    whole = erase(url, key, "--verify", str(log))
    assert (whole.returncode, whole.stdout[:8]) == (0, "3 lines,"), whole
    assert erase(url, key, "--verify", "-").stdout == whole.stdout
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    broken = erase(url, key, "--verify", str(log))
    assert (broken.returncode, "not as it was written: line" in broken.stderr) == (1, True), broken


async def test_what_makes_no_sense_is_said_in_one_line(tmp_path: Path, key: Path) -> None:
    url = (tmp_path / "faces").as_uri()
    await put(url, taken(1))
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    for arguments in (
        [],
        ["x"],
        ["--visit", "x"],
        ["--device", "_store"],
        ["--device", "porch", "--from", "yesterday"],
        ["--device", "porch", "--to", tomorrow],
        [taken(1).id, "--to", "2026-01-01"],
        [taken(1).id, "--key", str(key.with_name("erase.pub")), "--yes"],
        [taken(1).id, "--key", str(tmp_path / "none"), "--yes"],
    ):
        told = erase(url, key, *arguments)
        assert (told.returncode, told.stderr.count("\n")) == (2, 1), (arguments, told)
    assert await stored(url) == {taken(1).id}


async def test_a_range_ends_now_unless_it_is_said_when(tmp_path: Path, key: Path) -> None:
    url = (tmp_path / "faces").as_uri()
    old, young = taken(120), taken(1)
    await put(url, old, young)
    until = (NOW - timedelta(hours=1)).isoformat()
    assert erase(url, key, "--device", "porch", "--to", until, "--yes").returncode == 0
    assert await stored(url) == {young.id}
    assert erase(url, key, "--camera", "front", "--yes").returncode == 0
    assert await stored(url) == set()
