"""The cloud's broker as `compose/cloud` runs it, as a process of this machine, with its own certificates."""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil

from services.common.mqtt import Broker
from services.pki.files import Owner
from services.pki.folder import PkiFolder
from services.up.brokers import find_mosquitto, free_port
from tests.support import wait_for_port

FILES = Path(__file__).parents[1] / "compose" / "cloud" / "broker"
MEMORY = "512m"
MEMORY_BYTES = 512 * 1024 * 1024
"""The container's limit in the compose file."""


def configure(folder: Path, version: str, **settings: str) -> Path:
    """Have `start` put a broker's configuration together; return the folder in which it lies.

    Args:
        folder: for what it makes.
        version: of the Mosquitto that it is to find, as in `2.0.11`; one that ends at once.
        settings: what `start` reads, where it is not what the compose file says.
    """
    program = folder / "mosquitto"
    program.write_text(f"#!/bin/sh\necho 'mosquitto version {version}'\n")
    program.chmod(0o755)
    environment = _environment(folder, path=f"{folder}{os.pathsep}{os.defpath}") | settings
    subprocess.run(
        ["/bin/sh", FILES / "start"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=30
    )
    return folder / "broker"


def _environment(folder: Path, path: str) -> dict[str, str]:
    """Return what the compose file gives to `start`."""
    of_this_machine = {name: os.environ[name] for name in ("PLUGINS",) if name in os.environ}
    given = {
        "PATH": path,
        "TMPDIR": str(folder),
        "CLIENTS": "certificates",
        "TEST_TOPIC": "",
        "STORE_TOPICS": "",
        "MEMORY": MEMORY,
    }
    return of_this_machine | given


class CloudBroker:
    """A broker as the compose file has it, and the authority that lets devices in.

    Attributes:
        port: where devices reach it.
        secrets: the authority's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.secrets = folder / "secrets"
        self._folder = folder
        self._now = datetime.now(UTC)
        self._pki = PkiFolder(self.secrets, Owner(os.geteuid(), os.getegid()))
        self._pki.init([], self._now)
        self._files = folder / "files"
        shutil.copytree(FILES, self._files)
        for path in self._files.glob("*.conf"):
            path.write_text(self._moved(path.read_text()))

    def _moved(self, text: str) -> str:
        """Return a part of the configuration with this machine's places in those of the container."""
        for of_the_container, here in {
            "persistence false\n": "persistence false\nuser root\n",
            "/run/secrets/": f"{self.secrets}/",
            "/tmp/broker/": f"{self._folder}/broker/",  # noqa: S108
            "listener 8883\n": f"listener {self.port} 127.0.0.1\n",
            "listener 1883 127.0.0.1\n": f"listener {free_port()} 127.0.0.1\n",
        }.items():
            text = text.replace(of_the_container, here)
        return text

    def start(self) -> None:
        path = f"{Path(find_mosquitto()).parent}{os.pathsep}{os.defpath}"
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", self._files / "start"],
                env=_environment(self._folder, path),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        wait_for_port(self.port)

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self._process.terminate()
        return self._process.wait(10.0)

    @property
    def log(self) -> str:
        return (self._folder / "broker.log").read_text()

    @property
    def resident_bytes(self) -> int:
        """What the broker has in memory just now; nothing between two of them."""
        with contextlib.suppress(psutil.Error):
            return sum(child.memory_info().rss for child in psutil.Process(self._process.pid).children())
        return 0

    def known(self, name: str) -> Broker:
        """Return the broker as a device, `_store` or `_gallery` reaches it."""
        certificate, key = self._pair(name)
        url = f"mqtts://127.0.0.1:{self.port}"
        return Broker(url, ca_file=self.secrets / "ca.crt", cert_file=certificate, key_file=key)

    def environment(self, name: str) -> dict[str, str]:
        """Return the same as a service's settings."""
        broker = self.known(name)
        return {
            "FACEFERRY_CLOUD_MQTT_URL": broker.url,
            "FACEFERRY_CLOUD_CA_FILE": str(broker.ca_file),
            "FACEFERRY_CLOUD_CERT_FILE": str(broker.cert_file),
            "FACEFERRY_CLOUD_KEY_FILE": str(broker.key_file),
        }

    def _pair(self, name: str) -> tuple[Path, Path]:
        if name.startswith("_"):
            stem = self.secrets / name.removeprefix("_")
            return stem.with_suffix(".crt"), stem.with_suffix(".key")
        folder = self.secrets / "unpacked" / name
        if not folder.is_dir():
            bundle = self._pki.add_device(name, self._now).read_bytes()
            with tarfile.open(fileobj=io.BytesIO(bundle)) as files:
                files.extractall(folder, filter="data")
        return folder / "device.crt", folder / "device.key"


@contextmanager
def running_cloud_broker(folder: Path) -> Iterator[CloudBroker]:
    """A cloud's broker that runs for as long as the context lasts."""
    broker = CloudBroker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
