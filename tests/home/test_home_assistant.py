"""What Home Assistant's own core makes of what forward says, at a real broker."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.wire.topics import Source
from tests.conftest import skip
from tests.home.environment import find_python
from tests.support import MosquittoServer, ServiceProcess, eventually
from tests.watching import detect

pytestmark = pytest.mark.timeout(180)
FRONT, YARD = Source("porch", "front"), Source("porch", "back-yard")
THERE = "binary_sensor.porch_front_somebody"


class HomeAssistant:
    """The core as a process of its own, and what it shows."""

    def __init__(self, python: str, folder: Path, port: int) -> None:
        self._told = folder / "seen.json"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("core.py"), str(port), folder],
            # Of one of its packages, which otherwise asks the internet for prices.
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _seen(self) -> dict[str, Any]:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        return dict(json.loads(self._told.read_text())) if self._told.exists() else {}

    def __getitem__(self, entity: str) -> str | None:
        """The state of an entity, or None where there is none."""
        found = self._seen().get("states", {}).get(entity)
        return None if found is None else str(found[0])

    @property
    def entities(self) -> set[str]:
        return set(self._seen().get("states", {}))

    @property
    def devices(self) -> dict[str, str | None]:
        return dict(self._seen().get("devices", {}))

    @property
    def problems(self) -> list[str]:
        return list(self._seen()["problems"])

    def picture(self, entity: str) -> bytes:
        return bytes.fromhex(self._seen()["pictures"].get(entity) or "")


@pytest.fixture
def home(local: MosquittoServer, tmp_path: Path) -> Iterator[HomeAssistant]:
    python = find_python()
    if python is None:
        skip("no Home Assistant: `python -m tests.home.environment` installs it, with Python 3.13 or newer")
    assert python is not None
    (tmp_path / "home").mkdir()
    core = HomeAssistant(python, tmp_path / "home", local.port)
    yield core
    core.kill()


@pytest.fixture
def forward(local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
        "FACEFERRY_KEEP": "visits",
        "FACEFERRY_HOME_ASSISTANT": "1",
    }
    with ServiceProcess("forward", tmp_path, settings) as process:
        yield process


async def test_every_entity_is_there_and_says_what_happens(
    local: MosquittoServer, home: HomeAssistant, forward: ServiceProcess
) -> None:
    async with detect(local) as world:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2, 60)
        world.says(FRONT, b"online")
        world.says(YARD, b"stalled")
        own = {"binary_sensor.porch_cloud", "sensor.porch_waiting", "sensor.porch_oldest"}
        of_each = {
            f"{kind}.porch_{camera}_{name}"
            for camera in ("front", "back_yard")
            for kind, name in (
                ("image", "latest"),
                ("binary_sensor", "somebody"),
                ("sensor", "visits_today"),
                ("sensor", "last_seen"),
            )
        }
        await eventually(lambda: home.entities == own | of_each, 60)
        assert home.devices == {"porch": None, "porch front": "porch", "porch back-yard": "porch"}
        await eventually(lambda: home[THERE] == "off")
        assert home["binary_sensor.porch_back_yard_somebody"] == "unavailable"
        assert home["binary_sensor.porch_cloud"] == "on"
        assert (home["sensor.porch_front_visits_today"], home["sensor.porch_front_last_seen"]) == (
            "0",
            "unknown",
        )

        picture = await world.sees(FRONT)
        assert picture
        await eventually(lambda: home[THERE] == "on")
        await eventually(lambda: home["sensor.porch_front_visits_today"] == "1")
        await eventually(lambda: home.picture("image.porch_front_latest") == picture)
        await eventually(lambda: home[THERE] == "off")
        seen_at = datetime.fromisoformat(home["sensor.porch_front_last_seen"] or "")
        assert datetime.now(UTC) - seen_at < timedelta(minutes=1)
        assert home["sensor.porch_back_yard_visits_today"] == "0"
        await eventually(lambda: home["sensor.porch_waiting"] == "1")
        assert home.problems == []


async def test_what_goes_is_unavailable_and_what_is_gone_is_gone(
    local: MosquittoServer, cloud: MosquittoServer, home: HomeAssistant, forward: ServiceProcess
) -> None:
    async with detect(local) as world:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2, 60)
        world.says(FRONT, b"online")
        world.says(YARD, b"online")
        await world.sees(FRONT)
        await eventually(lambda: home["sensor.porch_front_visits_today"] == "1", 60)
        world.says(FRONT, b"offline")
        await eventually(lambda: home[THERE] == "unavailable")
        world.says(FRONT, b"online")
        await eventually(lambda: home[THERE] in ("on", "off"))

        world.says(YARD, b"")
        await eventually(lambda: home.devices == {"porch": None, "porch front": "porch"})
        assert not [entity for entity in home.entities if "yard" in entity]

        cloud.kill()
        await eventually(lambda: home["binary_sensor.porch_cloud"] == "off")
        forward.kill()
        await eventually(lambda: {home[entity] for entity in home.entities} == {"unavailable"})
        cloud.start()
        forward.start()
        await eventually(lambda: home["binary_sensor.porch_cloud"] == "on", 60)
        await eventually(lambda: home["sensor.porch_front_visits_today"] == "1")
        assert home.picture("image.porch_front_latest")
        assert home.problems == []


async def test_a_broker_that_forgets_everything_is_told_again(
    local: MosquittoServer, home: HomeAssistant, forward: ServiceProcess
) -> None:
    async with detect(local) as world:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2, 60)
        world.says(FRONT, b"online")
        await eventually(lambda: home[THERE] == "off", 60)
        local.kill()
        await eventually(lambda: home[THERE] == "unavailable")
        local.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await world._link.wait_up()
        world.says(FRONT, b"online")
        await eventually(lambda: home[THERE] == "off", 60)
