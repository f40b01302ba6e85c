"""What the store's `/readyz` says while its disk has trouble, looked at ten times a second."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.mqtt import Link
from services.common.wire import faces
from tests.disks import Disk, mountable
from tests.storing import StoreProcess, face, images_in, names_in, receipted
from tests.support import MosquittoServer, S3Server

LOOK_EVERY_S = 0.1
PROMISED_S = 5.0
FLICKER_S = 8.0
"""For so long it is watched whether trouble that lasts stays one trouble."""

Start = Callable[..., StoreProcess]


class Readiness:
    """Watches what `/readyz` says of the store; `said` is each new word, with when it was first heard."""

    def __init__(self, store: StoreProcess) -> None:
        self._store = store
        self.said: list[tuple[float, str | None]] = []

    async def watch(self) -> None:
        while True:
            why = (await asyncio.to_thread(self._store.problems)).get("store")
            if not self.said or self.said[-1][1] != why:
                self.said.append((time.monotonic(), why))
            await asyncio.sleep(LOOK_EVERY_S)

    @property
    def words(self) -> list[str | None]:
        return [why for _, why in self.said]

    async def until(self, why: str | None, seconds: float = PROMISED_S) -> None:
        """Wait until it says so; it has five seconds, and a look of ours."""
        try:
            async with asyncio.timeout(seconds + 3 * LOOK_EVERY_S):
                while not self.said or self.said[-1][1] != why:  # noqa: ASYNC110 - what is watched is another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{why} was not said within {seconds} s, but {self.words}")


@asynccontextmanager
async def watched(store: StoreProcess) -> AsyncIterator[Readiness]:
    await store.until_ready()
    readiness = Readiness(store)
    watch = asyncio.create_task(readiness.watch())
    try:
        await readiness.until(None)
        yield readiness
        # The gauge and the log tell the same story.
        assert store.metric("faceferry_store_available") == 1
        told = [line for line in store.log if line["event"] in ("store.available", "store.unavailable")]
        assert len(told) == len(readiness.words), (told, readiness.words)
    finally:
        watch.cancel()


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    with mountable(tmp_path):
        yield tmp_path / "disk"


@pytest.fixture
def start(broker: MosquittoServer, tmp_path: Path, point: Path) -> Iterator[Start]:
    """Starts a store in a folder, or at a URL."""
    started: list[StoreProcess] = []

    def start(where: Path | str, **environment: str) -> StoreProcess:
        url = where.as_uri() if isinstance(where, Path) else where
        store = StoreProcess(broker.url, url, tmp_path / "store.log", **environment).__enter__()
        started.append(store)
        return store

    yield start
    for store in started:
        store.kill()
    assert point.parent == tmp_path  # unmounted only after the processes are gone


async def store_faces(edge: Link, numbers: range) -> None:
    """Send faces, and wait until each is receipted."""
    for number in numbers:
        edge.publish(faces.encode_face(face(number)))
    wanted = {face(number).id for number in numbers}
    while wanted:
        receipt = await receipted(edge, 1)
        wanted -= receipt.ids


async def keep_sending(edge: Link, numbers: range, seconds: float) -> None:
    """Send the same faces again and again, as forward does while it has no receipt."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for number in numbers:
            edge.publish(faces.encode_face(face(number)))
        await asyncio.sleep(0.5)


async def test_a_disk_that_became_read_only_is_told_of_without_a_face(
    start: Start, edge: Link, point: Path, tmp_path: Path
) -> None:
    disk = Disk(point, tmp_path / "disk.img").mount()
    async with watched(start(point / "faces")) as readiness:
        await store_faces(edge, range(5))
        disk.remount("ro")
        await readiness.until("read_only")
        await keep_sending(edge, range(10), FLICKER_S)
        disk.remount("rw")
        await readiness.until(None)
        await store_faces(edge, range(10))
        assert readiness.words == [None, "read_only", None]
    assert len(images_in(point / "faces")) == 10


async def test_full_stays_full_while_copies_succeed_and_new_faces_do_not(
    start: Start, edge: Link, point: Path
) -> None:
    disk = Disk(point, size="2m").mount()
    async with watched(start(point / "faces")) as readiness:
        await store_faces(edge, range(20))
        ballast = disk.fill()
        await readiness.until("full")
        await keep_sending(edge, range(40), FLICKER_S)
        with ballast.open("rb+") as file:
            file.truncate(ballast.stat().st_size - 8192)  # a few faces get in, and it is full again
        await keep_sending(edge, range(100), FLICKER_S)
        assert readiness.words == [None, "full"]
        ballast.unlink()
        await readiness.until(None)
        await store_faces(edge, range(100))
        assert readiness.words == [None, "full", None]
    assert len(images_in(point / "faces")) == 100


@pytest.mark.parametrize("below", [".", "faces"])
async def test_an_unmounted_disk_is_waited_for(
    start: Start, edge: Link, point: Path, tmp_path: Path, below: str
) -> None:
    disk = Disk(point, tmp_path / "disk.img").mount()
    async with watched(start(point / below)) as readiness:
        await store_faces(edge, range(5))
        disk.unmount()
        await readiness.until("not_mounted")
        await keep_sending(edge, range(10), FLICKER_S / 2)
        assert names_in(point) == set()
        disk.mount()
        await readiness.until(None)
        await store_faces(edge, range(10))
        assert readiness.words == [None, "not_mounted", None]
        assert len(images_in(point / below)) == 10


async def test_a_removed_folder_is_made_again_under_a_running_service(
    start: Start, edge: Link, tmp_path: Path
) -> None:
    root = tmp_path / "faces"
    async with watched(start(root)) as readiness:
        await store_faces(edge, range(5))
        for _ in range(2):
            shutil.rmtree(root)
            await readiness.until("removed")
            await readiness.until(None)
        await store_faces(edge, range(5))
        assert readiness.words == [None, "removed", None, "removed", None]
    assert len(images_in(root)) == 5


async def test_a_folder_that_is_removed_while_faces_come_keeps_what_is_receipted_from_then_on(
    start: Start, edge: Link, tmp_path: Path
) -> None:
    root = tmp_path / "faces"
    async with watched(start(root)) as readiness:
        await store_faces(edge, range(5))
        sending = asyncio.create_task(keep_sending(edge, range(5, 20), 6.0))
        await asyncio.sleep(1.0)
        root.rename(tmp_path / "moved away")
        await readiness.until("removed")
        await readiness.until(None)
        await sending
        await store_faces(edge, range(20, 30))
        assert readiness.words == [None, "removed", None]
    both = images_in(root) | images_in(tmp_path / "moved away")
    assert set(both.values()) == {face(number).image for number in range(30)}


async def test_a_disk_that_does_not_answer_is_told_of_and_its_faces_come_later(
    start: Start, edge: Link, point: Path, tmp_path: Path
) -> None:
    disk = Disk(point, tmp_path / "disk.img").mount()
    async with watched(start(point)) as readiness:
        await store_faces(edge, range(5))
        with disk.frozen():
            for number in range(5, 10):
                edge.publish(faces.encode_face(face(number)))
            await readiness.until("timeout")
            await asyncio.sleep(FLICKER_S / 2)
        await readiness.until(None)
        await store_faces(edge, range(10))
        assert readiness.words == [None, "timeout", None]


async def test_a_bucket_that_does_not_answer_is_told_of_long_before_its_requests_end(
    start: Start, edge: Link, bucket: S3Server
) -> None:
    async with watched(start("s3://faces", **bucket.environment)) as readiness:
        await store_faces(edge, range(5))
        os.kill(bucket.pid, signal.SIGSTOP)
        edge.publish(faces.encode_face(face(5)))
        await readiness.until("timeout")
        await keep_sending(edge, range(10), FLICKER_S)
        os.kill(bucket.pid, signal.SIGCONT)
        await readiness.until(None)
        await store_faces(edge, range(10))
        assert readiness.words == [None, "timeout", None]


async def test_a_single_folder_that_cannot_be_written_is_trouble_until_it_can(
    start: Start, edge: Link, tmp_path: Path
) -> None:
    root = tmp_path / "faces"
    async with watched(start(root)) as readiness:
        day = root / "dt=2026-01-31"
        day.write_text("in the way")
        edge.publish(faces.encode_face(face(1)))
        await readiness.until("unreachable", PROMISED_S)
        await asyncio.sleep(FLICKER_S)
        day.unlink()
        await readiness.until(None)
        await store_faces(edge, range(2))
        assert readiness.words == [None, "unreachable", None]
