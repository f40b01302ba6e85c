"""A face is receipted only when a power cut cannot take it any more."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import skip
from tests.support import MosquittoServer, ServiceProcess
from tests.system.test_forward import face, neighbours, settings, spooled

DISK_BYTES = 64 * 1024 * 1024
RECEIPTS = 15


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    """A disk image as a folder. Nothing that was not synchronised reaches the image within 10 minutes."""
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop,commit=600", image, folder], capture_output=True, check=False)
    if done.returncode != 0:
        skip(f"no disk image can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The image of the disk that is mounted at `tmp_path / "disk"`."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        skip("a disk image takes root and mkfs.ext4")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(image, tmp_path / "disk"):
        os.sync()
        yield image


async def test_what_is_receipted_is_on_the_disk_beneath_the_file_system(
    tmp_path: Path, broker: MosquittoServer, disk: Path
) -> None:
    """Copies the disk itself at each receipt, which is what a power cut just then would leave."""
    cloud = MosquittoServer(tmp_path)  # never started
    forward = ServiceProcess("forward", tmp_path, settings(tmp_path / "disk", broker, cloud)).start()
    copies: list[tuple[frozenset[str], Path]] = []

    def copy(ids: frozenset[str]) -> None:
        forward.signal(signal.SIGSTOP)
        copies.append((ids, tmp_path / f"copy-{len(copies)}"))
        subprocess.run(["cp", "--sparse=always", disk, copies[-1][1]], check=True)
        forward.signal(signal.SIGCONT)

    try:
        async with neighbours(broker, broker) as (detect, _):
            detect.on_taken = copy
            for number in range(RECEIPTS):
                await detect.publish([face(10 * number + each) for each in range(3)])
    finally:
        forward.kill()
    assert len(copies) >= RECEIPTS
    for number, (ids, image) in enumerate(copies):
        with mounted(image, tmp_path / f"found-{number}"):
            assert ids <= spooled(tmp_path / f"found-{number}" / "spool")
