"""Real servers for the tests, each on a free loopback port and stopped by its process id."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil

from services.up.brokers import find_mosquitto, free_port, loopback_config

SHARED = Path(__file__).parents[2] / "shared"


class MosquittoServer:
    """A real Mosquitto that can be killed and started again on the same port."""

    def __init__(self, folder: Path, extra_config: str = "") -> None:
        self.port = free_port()
        self.config = folder / f"mosquitto-{self.port}.conf"
        self.config.write_text(loopback_config(self.port) + extra_config)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        resident: int = psutil.Process(self.pid).memory_info().rss
        return resident

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [find_mosquitto(), "-c", str(self.config)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_port(self.port)
        return self

    def kill(self) -> None:
        """End it without a chance to save or say anything."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None


def wait_for_port(port: int, timeout_s: float = 10.0) -> None:
    """Wait until somebody listens on a loopback port."""
    deadline = time.monotonic() + timeout_s
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port}")
        time.sleep(0.02)


async def eventually(claim: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `claim()` is truthy; fail when it is not in time."""
    async with asyncio.timeout(timeout_s):
        while not claim():  # noqa: ASYNC110 - claims are about processes, which signal nothing
            await asyncio.sleep(0.01)
