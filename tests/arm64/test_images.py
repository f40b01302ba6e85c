"""The images for arm64: all of each can be imported, and detect finds faces in its own."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.up.brokers import free_port
from tests.arm64.engine import PLATFORM, build_base, build_images, image, need_emulator
from tests.arm64.machine import CLIP
from tests.containers.engine import SERVICES, docker, start_engine
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


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_for_arm64_and_its_service_starts(service: str) -> None:
    assert json.loads(docker("inspect", image(service)))[0]["Architecture"] == "arm64"
    run = ["docker", "run", "--rm", "--platform", PLATFORM, "-e", "FACEFERRY_LOG_LEVEL=loud", image(service)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=600)
    # To the point of reading its settings, everything is imported.
    assert (done.returncode, "FACEFERRY_LOG_LEVEL" in done.stderr) == (2, True), done.stderr[-2000:]


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
    with container("detect", settings):
        there = await faces_of(jpegs, broker)
    assert len(here) > len(jpegs)
    assert there == here


async def faces_of(jpegs: list[bytes], broker: MosquittoServer) -> dict[str, bytes]:
    """Return the faces that whoever detects finds, by id."""
    async with Driver(broker.url).running() as driver, asyncio.timeout(1800):
        await driver.play(jpegs, window=1)
        return {face.id: face.image for face in driver.faces}


@contextmanager
def container(service: str, settings: dict[str, str]) -> Iterator[None]:
    """Run a service's image in this machine's own network; what it says is shown if it does not end well."""
    given = {**settings, "FACEFERRY_HTTP_PORT": str(free_port()), "FACEFERRY_HTTP_HOST": "127.0.0.1"}
    words = [word for name, value in given.items() for word in ("-e", f"{name}={value}")]
    started = docker("run", "-d", "--platform", PLATFORM, "--network", "host", *words, image(service)).strip()
    try:
        yield
    finally:
        state = json.loads(docker("inspect", started))[0]["State"]
        logs = subprocess.run(["docker", "logs", "--tail", "40", started], capture_output=True, check=False)
        docker("rm", "-f", started)
    assert state["Running"], f"it ended with status {state['ExitCode']}: {logs.stdout + logs.stderr!r}"
