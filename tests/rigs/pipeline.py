"""The whole of Faceferry as processes whose time and memory are measured."""

import contextlib
import json
import os
import re
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from services.common.storage.keys import id_time
from services.up.brokers import find_mosquitto, free_port, loopback_config
from services.up.once import JournalFollower, spool_contents
from services.up.plan import GALLERY, SERVICES, RunPlan, programs

PARTS = ("capture", "local", "detect", "forward", "cloud", "store")
_DROPPED = re.compile(r'^faceferry_\w*dropped_total\{.*?reason="(\w+)".*?\} (\S+)', re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """What a part has taken: processor seconds with its children's, and resident bytes of its own."""

    cpu_s: float
    resident_bytes: int


class Rig:
    """Brokers and services, started and still running.

    Attributes:
        journal: what capture notes of paced sources.
    """

    def __init__(self, plan: RunPlan, folder: Path, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.journal = JournalFollower(
            plan.journal_path, [camera.partition("=")[0] for camera in plan.cameras]
        )
        for program in programs(plan, environment, find_mosquitto()):
            with (folder / f"{program.name}.log").open("wb") as log:
                self._processes[program.name] = subprocess.Popen(
                    program.arguments,
                    env=program.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    @property
    def plan(self) -> RunPlan:
        """Where everything is."""
        return self._plan

    def usage(self) -> dict[str, Usage]:
        """Return what each part has taken so far."""
        return {name: usage_of(process.pid) for name, process in self._processes.items()}

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until a condition holds, which is asked for often.

        Raises:
            RuntimeError: a part has ended; its last words are in the message.
            TimeoutError: it did not come to hold.
        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    words = (self._folder / f"{name}.log").read_text()[-2_000:]
                    raise RuntimeError(f"{name} ended with status {process.returncode}: {words}")
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")
            time.sleep(0.005)

    def wait_first_frame(self) -> None:
        """Wait until the first paced frame is answered."""
        self.wait("the first frame", lambda: self._followed().frames > 0)

    def finish(self, timeout_s: float = 300.0) -> None:
        """Wait until all paced frames are answered and the spool is empty."""
        self.wait("an empty pipeline", self._is_done, timeout_s)

    def counted(self, service: str, counter: str) -> float:
        """Return a counter's value, of all its labels together."""
        found = re.findall(rf"^{counter}(?:\{{[^}}]*\}})? (\S+)$", self._metrics(service), re.MULTILINE)
        return sum(map(float, found))

    def dropped(self) -> dict[str, int]:
        """Return how many frames capture and detect have dropped, by reason."""
        counts: dict[str, int] = {}
        for service in ("capture", "detect"):
            for reason, count in _DROPPED.findall(self._metrics(service)):
                counts[reason] = counts.get(reason, 0) + int(float(count))
        return counts

    def stored(self) -> list[float]:
        """Return for each stored face how long it took from the frame to the bucket's answer, in seconds.

        The store says so where `FACEFERRY_LOG_LEVEL` is `debug`.
        """
        latencies = []
        for line in (self._folder / "store.log").read_text().splitlines():
            if "store.face_stored" in line:
                event = json.loads(line)
                at = datetime.fromisoformat(event["timestamp"])
                latencies.append((at - id_time(event["id"])).total_seconds())
        return latencies

    def stop(self) -> None:
        """End every process."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def _metrics(self, service: str) -> str:
        url = f"http://127.0.0.1:{self._plan.http_ports[service]}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            told: bytes = answer.read()
        return told.decode()

    def _followed(self) -> JournalFollower:
        self.journal.follow()
        return self.journal

    def _is_done(self) -> bool:
        if not self._followed().is_finished:
            return False
        spool = spool_contents(self._plan.spool_path)
        return spool is not None and spool.faces == 0


@contextlib.contextmanager
def running(
    folder: Path,
    cameras: tuple[str, ...],
    store_url: str,
    *,
    keep: str = "every",
    **settings: str,
) -> Iterator[Rig]:
    """Run all services, a gallery if its port is set, and both brokers in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = RunPlan(
        device="bench",
        cameras=cameras,
        store_url=store_url,
        folder=folder,
        local_port=free_port(),
        cloud_port=free_port(),
        http_ports={name: free_port() for name in (*SERVICES, GALLERY)},
        detector="yunet",
        keep=keep,
        gallery_port=int(settings.get("FACEFERRY_GALLERY_PORT", 0)),
    )
    (folder / "local.conf").write_text(loopback_config(plan.local_port))
    (folder / "cloud.conf").write_text(loopback_config(plan.cloud_port))
    rig = Rig(plan, folder, {**os.environ, "PYTHONPATH": _hidden(folder), **settings})
    try:
        yield rig
    finally:
        rig.stop()


def _hidden(folder: Path) -> str:
    """Return a folder that, first in Python's path, hides what developers have installed and users have not.

    structlog loads rich wherever it finds it, which is 3 MB of each service.
    """
    (folder / "hidden").mkdir()
    (folder / "hidden" / "rich.py").write_text("raise ImportError\n")
    return os.pathsep.join(filter(None, (str(folder / "hidden"), os.environ.get("PYTHONPATH"))))


def quantile(values: list[float], share: float) -> float:
    """Return the value below which a share of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: list[float]) -> float:
    """Return the middle value."""
    return statistics.median(values) if values else float("nan")


def usage_of(pid: int) -> Usage:
    """Return what a process has taken so far."""
    process = psutil.Process(pid)
    spent = process.cpu_times()
    # Children that have ended count in their parent's `children_*`; those that run are asked themselves.
    cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            cpu_s += own.user + own.system
    return Usage(cpu_s, process.memory_info().rss)
