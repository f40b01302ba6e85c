"""The secrets of a cloud and of its devices, and where they are reached."""

import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from services.commands.pki import CONTAINER_USER
from services.pki.folder import PkiFolder
from services.up.brokers import free_port
from tests.containers.engine import ROOT, gateway

DEVICE = "porch"


class Site:
    """A cloud and its device `porch`, with what `faceferry pki` and `s3-keys` make.

    Attributes:
        pki: the authority.
        cloud: the folder of secrets that it is, and
        edge: that of the device.
        host: the address under which the device reaches the cloud.
        mqtt_port: of the cloud's broker, on every address of this machine.
        s3_port: of the S3 server, on this machine's own address.
    """

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.cloud = folder / "cloud"
        self.edge = folder / "edge"
        self.host = gateway()
        self.mqtt_port = free_port()
        self.s3_port = free_port()
        self.pki = PkiFolder(self.cloud, CONTAINER_USER)
        self.pki.init([self.host, "localhost"], self.now)
        self.edge.mkdir()
        with tarfile.open(self.pki.add_device(DEVICE, self.now)) as bundle:
            for member in bundle:
                bundle.extract(member, self.edge, filter="fully_trusted")
        environment = {"FACEFERRY_SECRETS": str(self.cloud), "PATH": "/usr/bin:/bin"}
        subprocess.run([ROOT / "compose/cloud/s3-keys"], env=environment, check=True)

    def cloud_settings(self) -> dict[str, str]:
        """What the cloud's `.env` says."""
        return {
            "COMPOSE_PROFILES": "selfhost",
            "FACEFERRY_SECRETS": str(self.cloud),
            "FACEFERRY_LOG_LEVEL": "debug",
            "FACEFERRY_STORE_URL": "s3://faces",
            "FACEFERRY_S3_ENDPOINT_URL": "http://s3:7070",
            "FACEFERRY_RETAIN_DAYS": "forever",  # the clips are old
            "FACEFERRY_MQTT_PORT": str(self.mqtt_port),
            "FACEFERRY_S3_PORT": str(self.s3_port),
        }

    def edge_settings(self, clips: Path, clip: str = "classroom.mp4") -> dict[str, str]:
        """What the device's `.env` says, with a clip as the camera."""
        return {
            "FACEFERRY_DEVICE": DEVICE,
            "FACEFERRY_SECRETS": str(self.edge),
            "FACEFERRY_LOG_LEVEL": "debug",
            "FACEFERRY_CLOUD_MQTT_URL": f"mqtts://{self.host}:{self.mqtt_port}",
            "FACEFERRY_KEEP": "every",
            "FACEFERRY_RETAIN_DAYS": "forever",
            "FACEFERRY_RECORDINGS": str(clips),
            "FACEFERRY_CAMERAS": f"front=file:///recordings/{clip}?paced=1",
        }

    def write_passwords(self, words: dict[str, str]) -> None:
        """Have user names and passwords: the broker's file, and each side's own."""
        for user, word in words.items():
            path = self.cloud / "passwords"
            path.touch()
            made = subprocess.run(
                ["mosquitto_passwd", "-b", path, user, word], capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
        (self.cloud / "passwords").chmod(0o644)
        for service in ("store", "gallery"):
            if f"_{service}" in words:
                (self.cloud / f"{service}-password").write_text(words[f"_{service}"] + "\n")
        (self.edge / "password").write_text(words[DEVICE] + "\n")
