"""The images for arm64: each is healthy by its own check, and detect finds the same faces in its own."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.up.brokers import free_port
from tests.arm64.engine import PLATFORM, build_base, build_images, image, need_emulator
from tests.arm64.machine import CLIP
from tests.containers.engine import SERVICES, docker, start_engine, until
from tests.detect_clips import MODELS, clip_jpegs
from tests.support import MosquittoServer, ServiceProcess
from tests.system.test_detect import Driver

pytestmark = [pytest.mark.timeout(7200), pytest.mark.usefixtures("images")]


@pytest.fixture(scope="module")
def images() -> None:
    """All four, built."""
    need_emulator()
    start_engine()
    build_base()
    build_images()


NOWHERE = "mqtt://127.0.0.1"
"""A broker that is none; for its health a service needs no other."""
ALONE = {
    "capture": {"FACEFERRY_CAMERAS": "front=test://"},
    "detect": {},
    "forward": {"FACEFERRY_CLOUD_MQTT_URL": f"{NOWHERE}:1884"},
    "store": {"FACEFERRY_CLOUD_MQTT_URL": f"{NOWHERE}:1884", "FACEFERRY_STORE_URL": "file:///tmp/faces"},
}
"""What each service wants besides, to start."""


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_for_arm64_and_tells_what_its_service_takes(service: str) -> None:
    assert json.loads(docker("inspect", image(service)))[0]["Architecture"] == "arm64"
    told = docker("run", "--rm", "--platform", PLATFORM, image(service), "--help")
    assert "FACEFERRY_HTTP_PORT" in told


@pytest.mark.parametrize("service", SERVICES)
def test_container_is_healthy_by_the_check_of_its_image(service: str) -> None:
    edge = {"FACEFERRY_DEVICE": "porch", "FACEFERRY_LOCAL_MQTT_URL": f"{NOWHERE}:1883"}
    # Its own command, as often and with as much time as an emulated processor wants.
    patient = ("--health-interval=10s", "--health-timeout=120s", "--health-start-period=900s")
    with container(service, {**edge, **ALONE[service]}, *patient) as started:
        until(
            lambda: state_of(started)["Health"]["Status"] == "healthy",
            timeout_s=900,
            told=lambda: str(state_of(started)),
        )


async def test_detect_finds_the_same_faces_in_its_image(
    broker: MosquittoServer, clips: Path, tmp_path: Path
) -> None:
    jpegs = await asyncio.to_thread(lambda: clip_jpegs(clips / CLIP)[:8])
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": broker.url,
        "FACEFERRY_KEEP": "every",
    }
    with ServiceProcess("detect", tmp_path, {**settings, "FACEFERRY_MODEL_DIR": str(MODELS)}):
        here = await faces_of(jpegs, broker)
    ours = {"FACEFERRY_HTTP_PORT": str(free_port()), "FACEFERRY_HTTP_HOST": "127.0.0.1"}
    with container("detect", {**settings, **ours}, "--network", "host", "--no-healthcheck"):
        there = await faces_of(jpegs, broker)
    assert len(here) > len(jpegs)
    assert there == here


async def faces_of(jpegs: list[bytes], broker: MosquittoServer) -> dict[str, bytes]:
    """Return the faces that whoever detects finds, by id."""
    async with Driver(broker.url).running() as driver, asyncio.timeout(1800):
        await driver.play(jpegs, window=1)
        return {face.id: face.image for face in driver.faces}


@contextmanager
def container(service: str, settings: dict[str, str], *options: str) -> Iterator[str]:
    """Run a service's image; yield the container's id. What it says is shown if it does not end well."""
    given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    started = docker("run", "-d", "--platform", PLATFORM, *options, *given, image(service)).strip()
    try:
        yield started
    finally:
        state = state_of(started)
        logs = subprocess.run(["docker", "logs", "--tail", "40", started], capture_output=True, check=False)
        docker("rm", "-f", started)
    assert state["Running"], f"it ended with status {state['ExitCode']}: {logs.stdout + logs.stderr!r}"


def state_of(started: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(docker("inspect", started))[0]["State"]
    return state
