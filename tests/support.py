"""Real servers for the tests, each on a free loopback port and stopped by its process id."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self
from unittest import mock

import psutil

from services.cli import main
from services.up.brokers import find_mosquitto, free_port, loopback_config

SHARED = Path(__file__).parents[2] / "shared"
PATIENCE = float(os.environ.get("FACEFERRY_TEST_PATIENCE") or 1)
"""How many times longer than usual to wait, on a machine that is emulated."""


class MosquittoServer:
    """A real Mosquitto that can be killed and started again on the same port."""

    def __init__(
        self, folder: Path, extra_config: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.config = folder / f"mosquitto-{self.port}.conf"
        self.config.write_text(loopback_config(self.port) + extra_config)
        self._environment = {**os.environ, **(environment or {})}
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
            [find_mosquitto(), "-c", str(self.config)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
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


@contextlib.contextmanager
def running_broker(folder: Path, extra_config: str = "") -> Iterator[MosquittoServer]:
    """A Mosquitto that runs for as long as the context lasts, unless the test stops it before."""
    server = MosquittoServer(folder, extra_config).start()
    try:
        yield server
    finally:
        server.kill()


class S3Server:
    """A real S3 server over a folder, which can be killed and started again on the same port.

    Args:
        program: versitygw's.
        folder: the test's own.
        log: where it writes a line for each request.
        is_versioning: whether its buckets can be told to keep versions.
    """

    def __init__(
        self, program: str, folder: Path, log: Path | None = None, *, is_versioning: bool = False
    ) -> None:
        self.key = "test-key"
        self.secret = "test-secret"  # noqa: S105 - it opens a folder of the test's own
        self.port = free_port()
        self.folder = folder / "s3"
        self.folder.mkdir()
        self._program = program
        self._options = [*_metadata_options(folder), str(self.folder)]
        self._globals = ["--quiet", *(["--access-log", str(log)] if log else [])]
        if is_versioning:
            (folder / "s3-versions").mkdir()
            self._options = ["--versioning-dir", str(folder / "s3-versions"), *self._options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a store needs to get in."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "FACEFERRY_S3_ENDPOINT_URL": self.url,
        }

    def write_keys(self, path: Path) -> None:
        """Put its keys into a file, as AWS_SHARED_CREDENTIALS_FILE names one; replaced whole."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(f"[default]\naws_access_key_id = {self.key}\naws_secret_access_key = {self.secret}\n")
        new.replace(path)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def create_bucket(self, name: str) -> None:
        """Make a bucket: to this server any folder under its own is one."""
        (self.folder / name).mkdir()

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [self._program, *self._globals, "--port", f"127.0.0.1:{self.port}", "posix", *self._options],
            env={"ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port)
        return self

    def kill(self) -> None:
        """End it without a chance to save or say anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _metadata_options(folder: Path) -> list[str]:
    """Say where versitygw may keep metadata: in extended attributes, where the file system has them."""
    try:
        os.setxattr(folder, "user.faceferry", b"1")
    except OSError:
        (folder / "s3-metadata").mkdir()
        return ["--sidecar", str(folder / "s3-metadata")]
    return []


class ServiceProcess:
    """One of our services as a process of its own, its log in a file."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.http_port = free_port()
        self.log_path = folder / f"{name}-{self.http_port}.log"
        self._environment = {**os.environ, "FACEFERRY_HTTP_PORT": str(self.http_port), **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def resident_bytes(self) -> int:
        resident: int = psutil.Process(self.pid).memory_info().rss
        return resident

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def exit_status(self) -> int | None:
        """How it ended, or None while it runs, or was not started."""
        return self._process.poll() if self._process is not None else None

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait until it ends by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it without a chance to save or say anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def metric(self, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples with this label, as its own `/metrics` tells them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        assert any(line.startswith(f"# TYPE {name} ") for line in lines), f"{self.name} has no metric {name}"
        found = [line for line in lines if re.match(rf"{name}(\{{| )", line) and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def wait_for_port(port: int, timeout_s: float = 30.0) -> None:
    """Wait until somebody listens on a loopback port."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on port {port}")
        time.sleep(0.02)


async def eventually(claim: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until `claim()` is truthy; fail when it is not in time."""
    async with asyncio.timeout(timeout_s * PATIENCE):
        while not claim():  # noqa: ASYNC110 - claims are about processes, which signal nothing
            await asyncio.sleep(0.01)


def faceferry(*arguments: str) -> int:
    """Run the `faceferry` command in this process; return its exit status.

    It sends no logs to where this test's output goes, which would be closed when a later test logs.
    """
    with mock.patch("services.cli.configure_logging"):
        return main(list(arguments))
