"""A day's faces in a bucket, of few devices or of many, and what it costs to look at them.

The keys are made, the listing is real: the real gallery and the real `faceferry faces` ask an S3 server, and
its access log says how often.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

from benchmarks.rig import median, usage_of
from services.common import times
from services.common.storage.index import names, rows
from services.common.storage.index.rows import Row
from services.common.storage.keys import FaceKey, camera_folder
from services.common.topics import Source
from services.up.brokers import free_port
from tests.support import MosquittoServer, S3Server, ServiceProcess, wait_for_port

BUCKET = "faces"
IN_A_FILE = 512
"""Rows that a store writes at once."""
LOOKS = 5
"""Of each the median is told."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look costs.

    Attributes:
        cpu_ms: processor milliseconds of whoever looks.
        wall_ms: until the answer was there, the server's work included.
        requests: to the S3 server.
    """

    cpu_ms: float
    wall_ms: float
    requests: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What it costs to look at one day's faces.

    Attributes:
        first_page: a page of a gallery that has just started.
        page: another page of it, of another hour each time.
        faces: `faceferry faces`, its start included, which takes most of it.
        start: the same for an empty bucket.
        index_files: that there were.
        index_bytes: that they have.
    """

    first_page: Look
    page: Look
    faces: Look
    start: Look
    index_files: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Worked:
    """What a command took: processor seconds, seconds, resident megabytes at most."""

    cpu_s: float
    wall_s: float
    peak_mb: float


class Day:
    """A bucket with one day's faces, spread evenly over it and over the devices.

    Args:
        program: the S3 server's.
        folder: an empty one.
        devices: how many.
        keys: how many faces.
    """

    def __init__(self, program: str, folder: Path, devices: int, keys: int) -> None:
        self._folder = folder
        self._log = folder / "access.log"
        self._server = S3Server(program, folder, self._log)
        self._devices = devices
        self._keys = keys
        self._dawn = times.midnight((datetime.now(UTC) - timedelta(days=1)).date())

    @contextmanager
    def served(self) -> Iterator["Day"]:
        """Make it, and have a server over it for as long as the context lasts."""
        for bucket in (BUCKET, "empty"):
            self._server.create_bucket(bucket)
        self._make()
        self._server.start()
        try:
            yield self
        finally:
            self._server.kill()

    def seen(self) -> Seen:
        """Look at it."""
        start = self._asked(self._listing("empty"))
        faces = self._asked(self._listing(BUCKET))
        index = [path.stat().st_size for path in (self._server.folder / BUCKET / "index").rglob("*.parquet")]
        return Seen(*self._pages(), faces, start, len(index), sum(index))

    def work(self, *arguments: str) -> Worked:
        """Run `faceferry index` with arguments.

        Raises:
            RuntimeError: it has failed.
        """
        began_s = time.monotonic()
        process = self._start("index", *arguments)
        _pid, status, spent = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"faceferry index ended with status {process.returncode}")
        wall_s = time.monotonic() - began_s
        return Worked(spent.ru_utime + spent.ru_stime, wall_s, spent.ru_maxrss * 1024 / 1e6)

    def _make(self) -> None:
        root = self._server.folder / BUCKET
        day = self._dawn.date().isoformat()
        sources = [Source(f"device-{number:05}", "front") for number in range(self._devices)]
        for source in sources:
            (root / camera_folder(source, day)).mkdir(parents=True)
        waiting: list[Row] = []
        for number in range(self._keys):
            at = self._dawn + timedelta(seconds=86_400 * number / self._keys)
            digest = blake2b(number.to_bytes(8), digest_size=16).hexdigest()
            key = FaceKey(sources[number % self._devices], f"{times.compact(at)}-{digest}", "image/jpeg")
            os.close(os.open(f"{root}/{key}", os.O_CREAT | os.O_WRONLY, 0o600))
            waiting.append(Row.of(key, 20_000, {"score": "0.9"}))
            if len(waiting) == IN_A_FILE:
                _index(root, waiting)
                waiting.clear()
        _index(root, waiting)

    def _pages(self) -> tuple[Look, Look]:
        with ExitStack() as stack:
            broker = MosquittoServer(self._folder).start()
            stack.callback(broker.kill)
            port = free_port()
            settings = {
                **self._environment(BUCKET),
                "FACEFERRY_CLOUD_MQTT_URL": broker.url,
                "FACEFERRY_GALLERY_PORT": str(port),
            }
            gallery = ServiceProcess("gallery", self._folder, settings).start()
            stack.callback(gallery.kill)
            wait_for_port(port)

            def page(query: str) -> Callable[[], None]:
                address = f"http://127.0.0.1:{port}/{query}"
                return lambda: _read(address)

            first = self._look(page(""), lambda: usage_of(gallery.pid).cpu_s)
            day = self._dawn.date().isoformat()
            others = [
                self._look(
                    page(f"?day={day}&before={times.compact(self._dawn + timedelta(hours=3 * n + 2.5))}"),
                    lambda: usage_of(gallery.pid).cpu_s,
                )
                for n in range(LOOKS)
            ]
            return first, _median(others)

    def _asked(self, command: Callable[[], None]) -> Look:
        return _median([self._look(command, _children_cpu_s) for _ in range(LOOKS)])

    def _look(self, look: Callable[[], None], cpu_s: Callable[[], float]) -> Look:
        requests, cpu, began_s = self._requests(), cpu_s(), time.monotonic()
        look()
        wall_s = time.monotonic() - began_s
        time.sleep(0.5)  # what a page has begun beside itself, its bars, and the server's log
        return Look((cpu_s() - cpu) * 1e3, wall_s * 1e3, self._requests() - requests)

    def _requests(self) -> int:
        return self._log.read_bytes().count(b"\n") if self._log.exists() else 0

    def _listing(self, bucket: str) -> Callable[[], None]:
        def listing() -> None:
            if self._start("faces", bucket=bucket).wait():
                raise RuntimeError("faceferry faces has failed")

        return listing

    def _start(self, *arguments: str, bucket: str = BUCKET) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**os.environ, **self._environment(bucket)},
            stdout=subprocess.DEVNULL,
        )

    def _environment(self, bucket: str) -> dict[str, str]:
        return {**self._server.environment, "FACEFERRY_STORE_URL": f"s3://{bucket}"}


def _index(root: Path, waiting: Sequence[Row]) -> None:
    for some in names.by_hour(waiting).values():
        body = rows.encode(some)
        path = root / names.key_for(some, body)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def _read(address: str) -> None:
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - our own gallery
        answer.read()


def _children_cpu_s() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _median(looks: Sequence[Look]) -> Look:
    return Look(
        *(median([getattr(look, name) for look in looks]) for name in ("cpu_ms", "wall_ms", "requests"))
    )
