"""A real container engine, and our images in it."""

import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.conftest import skip
from tests.support import SHARED

ROOT = Path(__file__).parents[2]
IMAGES = "faceferry-test"
SERVICES = ("capture", "detect", "forward", "store")


def docker(*arguments: str, is_checked: bool = True, input_text: str | None = None) -> str:
    """Run `docker`; return what it says."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, input=input_text, timeout=600
    )
    if is_checked and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout


def start_engine() -> None:
    """See that there is an engine, and the public images or their stand-ins; skip where there is none."""
    images = SHARED / "images"
    if images.is_dir() and os.geteuid() == 0:
        for script in ("engine", "build"):
            done = subprocess.run([images / script], capture_output=True, text=True, check=False, timeout=900)
            if done.returncode != 0:
                skip(f"no container engine: {done.stderr[-300:]}")
    if not (_works("docker", "compose", "version") and _works("docker", "info")):
        skip("no container engine with Compose v2")


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def build_images() -> None:
    """Build all four images, with the models of this machine if it has them."""
    for service in SERVICES:
        given = [*mirrors(), *_models()] if service == "detect" else mirrors()
        arguments = [part for one in given for part in ("--build-arg", one)]
        dockerfile = f"{ROOT}/services/{service}/Dockerfile"
        docker("build", "-q", "-t", image(service), "-f", dockerfile, *arguments, str(ROOT))


def mirrors() -> list[str]:
    """Return the build arguments that say where pip finds packages, if this machine has its own."""
    return [name for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in os.environ]


def _models() -> list[str]:
    """Return the build argument that spares detect the download, where the models are at hand."""
    tag = models_image()
    return [f"MODELS={tag}"] if tag else []


def models_image() -> str:
    """Make an image with detect's models, where they are at hand; return its name, or nothing."""
    folder = SHARED / "models"
    if not folder.is_dir():
        return ""
    tag = f"{IMAGES}/models"
    docker("build", "-q", "-t", tag, "-f", "-", str(folder), input_text="FROM scratch\nCOPY *.onnx /\n")
    return tag


def image(service: str) -> str:
    return f"{IMAGES}/{service}:test"


def gateway() -> str:
    """The host's own address, as a container on any bridge reaches it."""
    found = json.loads(docker("network", "inspect", "bridge"))
    address: str = found[0]["IPAM"]["Config"][0].get("Gateway", "172.17.0.1")
    return address


class Project:
    """A compose project with a name of its own; leaving it removes all that it started."""

    def __init__(self, files: Sequence[Path], settings: Mapping[str, str], folder: Path) -> None:
        self.name = f"faceferry-test-{uuid.uuid4().hex[:8]}"
        self._files = [part for file in files for part in ("-f", str(file))]
        self._settings = {"FACEFERRY_IMAGES": IMAGES, "FACEFERRY_VERSION": "test", **settings}
        self._env_file = folder / f"{self.name}.env"

    def __enter__(self) -> Self:
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        self("down", "--volumes", "--timeout", "2", "--remove-orphans")

    def configure(self, **settings: str) -> None:
        """Change what the `.env` says."""
        self._settings |= settings
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))

    def __call__(self, *arguments: str) -> str:
        """Run `docker compose`; return what it says."""
        given = [
            "docker",
            "compose",
            "-p",
            self.name,
            "--env-file",
            str(self._env_file),
            *self._files,
            *arguments,
        ]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FACEFERRY_", "AWS_", "COMPOSE_"))
        }
        done = subprocess.run(
            given, capture_output=True, text=True, check=False, env=environment, timeout=300
        )
        if done.returncode != 0:
            told = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            logs = docker("compose", "-p", self.name, "logs", "--tail", "30", is_checked=False)
            raise AssertionError(f"docker compose {' '.join(arguments)}: {told}\n{logs[-6000:]}")
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Start all, and wait until it is healthy."""
        self("up", "--wait", "--no-build", *arguments)

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What the engine knows of each container that was not meant to end."""
        ids = self("ps", "-a", "-q", *([service] if service else [])).split()
        found = json.loads(docker("inspect", *ids)) if ids else []
        return [one for one in found if one["HostConfig"]["RestartPolicy"]["Name"] != "no"]

    def events(self, service: str) -> list[dict[str, Any]]:
        """What the service's containers have logged, all replicas together."""
        lines = self("logs", "--no-log-prefix", "--no-color", service).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def ids(self, service: str, event: str) -> set[str]:
        """The faces that one kind of event was about."""
        return {line["id"] for line in self.events(service) if line["event"] == event}


def service_of(container: Mapping[str, Any]) -> str:
    name: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return name


def ask(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Ask what a container serves on this machine's own address; return the status and what is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def until(claim: Callable[[], object], timeout_s: float, told: Callable[[], str] = lambda: "") -> float:
    """Wait until `claim()` is truthy; return how many seconds it took; fail when it is not in time."""
    started = time.monotonic()
    while not claim():
        if time.monotonic() - started > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {told()}")
        time.sleep(0.5)
    return time.monotonic() - started
