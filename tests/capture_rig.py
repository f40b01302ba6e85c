"""Capture as a process of its own, and somebody who answers its frames."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from services.common.images import structure
from services.common.mqtt import Broker, Link, LinkDown
from services.common.wire.faces import mint_id
from services.common.wire.frames import Done, Frame, decode_frame, encode_done
from services.common.wire.message import Message
from services.common.wire.status import reason_in

DEVICE = "porch"


class CaptureProcess:
    """`python -m services.capture` with settings of the test's choice."""

    def __init__(self, folder: Path, broker_url: str, cameras: str, **settings: object) -> None:
        self.log_path = folder / "capture.log"
        self.journal_path = folder / "journal"
        self._seen: dict[int, psutil.Process] = {}
        environment = {
            **os.environ,
            "FACEFERRY_DEVICE": DEVICE,
            "FACEFERRY_LOCAL_MQTT_URL": broker_url,
            "FACEFERRY_CAMERAS": cameras,
            "FACEFERRY_JOURNAL_PATH": str(self.journal_path),
            "FACEFERRY_LOG_FORMAT": "json",
            **{f"FACEFERRY_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.capture"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.process = psutil.Process(self._process.pid)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def resident_bytes(self) -> int:
        resident: int = self.process.memory_info().rss
        return resident

    def children(self) -> list[psutil.Process]:
        """The programs that run below it now; all that ever did are remembered."""
        children = self.process.children(recursive=True)
        self._seen |= {child.pid: child for child in children}
        return children

    def leftovers(self) -> list[psutil.Process]:
        """Programs that ran below it and still run."""
        return [child for child in self._seen.values() if child.is_running()]

    def stop(self) -> int:
        self.children()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(10)

    def kill(self) -> None:
        if self._process.poll() is None:
            self.children()
            self._process.kill()
            self._process.wait()


class Detector:
    """Answers every frame with one face, as long as `is_answering`; remembers what came."""

    def __init__(self, broker_url: str) -> None:
        self.is_answering = True
        self.next_s: float | None = None
        self.drops: dict[int, str] = {}
        self.frames: dict[str, list[Frame]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.hashes: dict[str, list[str]] = defaultdict(list)
        self.sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.arrivals_s: dict[str, float] = {}
        self.reasons: dict[str, list[str | None]] = defaultdict(list)
        self.states: dict[str, list[str]] = defaultdict(list)
        self._link = Link(
            "local",
            Broker(broker_url),
            identity=f"detect-{DEVICE}",
            subscriptions=[f"faceferry/{DEVICE}/+/frame", f"faceferry/{DEVICE}/+/status"],
        )

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._link.__aexit__(kind, error, trace)

    async def wait_up(self) -> None:
        await self._link.wait_up()

    def more_than(self, camera: str, frames: int) -> Callable[[], bool]:
        """Return the claim that so many frames of a camera have come."""
        return lambda: self.counts[camera] > frames

    async def _work(self) -> None:
        async for delivery in self._link:
            delivery.acknowledge()
            message = delivery.message
            if message.topic.endswith("/status"):
                camera = message.topic.split("/")[2]
                self.states[camera].append(message.payload.decode())
                self.reasons[camera].append(reason_in(message))
            else:
                self._take(message)

    def _take(self, message: Message) -> None:
        frame = decode_frame(message)
        info = structure.inspect(frame.jpeg)
        camera = frame.source.camera
        self.counts[camera] += 1
        self.arrivals_s[camera] = time.monotonic()
        self.sizes[camera].append((info.width, info.height))
        self.hashes[camera].append(hashlib.sha256(frame.jpeg).hexdigest())
        self.frames[camera] = [*self.frames[camera][-999:], frame]
        if self.is_answering:
            reason = self.drops.get(frame.sequence)
            if reason == "custody_full":
                del self.drops[frame.sequence]
            faces = () if reason else (mint_id(frame.source, frame.time, frame.jpeg),)
            try:
                self._link.publish(
                    encode_done(Done(frame.source, frame.sequence, faces, reason, self.next_s))
                )
            except LinkDown:
                return
