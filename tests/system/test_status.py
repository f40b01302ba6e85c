"""`faceferry status`, asked of a real service, and `faceferry` as the images hold it."""

import json
import re
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from services.common.version import VERSION
from services.up.brokers import free_port
from tests.support import MosquittoServer, ServiceProcess, eventually

ROOT = Path(__file__).parents[2]


def faceferry(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_it_says_what_a_forward_says(
    local: MosquittoServer, cloud: MosquittoServer, tmp_path: Path
) -> None:
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CLOUD_MQTT_URL": cloud.url,
        "FACEFERRY_SPOOL_PATH": str(tmp_path / "spool"),
    }
    with ServiceProcess("forward", tmp_path, settings) as forward:
        await eventually(lambda: forward.log.count("mqtt.link_up") == 2)
        address = f"127.0.0.1:{forward.http_port}"
        done = faceferry("status", address, "--json")
        told = json.loads(done.stdout)
        assert told["lasts"] == []
        (process,) = told["processes"]
        assert (process["service"], process["device"], process["is_ready"]) == ("forward", "porch", True)
        assert {(each["link"], each["is_up"]) for each in told["links"]} == {("local", True), ("cloud", True)}
        assert done.returncode == 0

        cloud.kill()
        await eventually(lambda: forward.log.count("mqtt.link_down") == 1)
        silent = f"127.0.0.1:{free_port()}"
        done = faceferry("status", address, silent)
        assert done.returncode == 1
        assert re.search(r"forward, on disk +0 faces: cloud_broker: no connection", done.stdout)
        assert f"{silent:24} no answer" in done.stdout


async def test_a_camera_that_is_away_is_not_well_and_capture_is_healthy(
    local: MosquittoServer, tmp_path: Path
) -> None:
    settings = {
        "FACEFERRY_DEVICE": "porch",
        "FACEFERRY_LOCAL_MQTT_URL": local.url,
        "FACEFERRY_CAMERAS": f"front=v4l2://{tmp_path}/video0",
    }
    with ServiceProcess("capture", tmp_path, settings) as capture:
        await eventually(lambda: "mqtt.link_up" in capture.log)
        await eventually(lambda: "capture.program_ended" in capture.log)
        address = f"127.0.0.1:{capture.http_port}"
        done = faceferry("status", address, "--once")
        assert done.returncode == 1
        assert re.search(r"capture +\S+ +ready", done.stdout)
        assert re.search(r"porch/front +offline \(unavailable\)", done.stdout)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/healthz") as answer:
            assert answer.status == HTTPStatus.OK


def test_where_no_service_is_known_it_says_how_to_name_one() -> None:
    done = faceferry("status")
    assert (done.returncode, "faceferry status 127.0.0.1:8080" in done.stderr) == (2, True)


def test_the_version_is_that_of_the_project() -> None:
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()
    assert f"appVersion: {VERSION}" in (ROOT / "deploy/chart/Chart.yaml").read_text()
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert released[0] == VERSION
    assert faceferry("--version").stdout == f"faceferry {VERSION}\n"


@pytest.mark.parametrize(
    ("image", "commands"),
    [
        ("capture", ["cameras", "status"]),
        ("detect", ["models", "status"]),
        ("forward", ["spool", "status"]),
        ("store", ["faces", "copy", "pki", "status"]),
    ],
)
def test_each_image_has_the_command_with_what_is_its_own(
    image: str, commands: list[str], tmp_path: Path
) -> None:
    dockerfile = (ROOT / "services" / image / "Dockerfile").read_text()
    for source, place in re.findall(r"^COPY (services.+) /opt/faceferry/(\S+)$", dockerfile, re.MULTILINE):
        for each in source.split():
            if (ROOT / each).is_dir():
                shutil.copytree(ROOT / each, tmp_path / place)
            else:
                (tmp_path / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / each, tmp_path / place)
    for command in commands:
        done = faceferry(command, "--help", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    absent = faceferry("models" if image != "detect" else "spool", "--help", folder=tmp_path)
    assert absent.returncode == 2
    assert "is not available here" in absent.stderr
    assert "/usr/local/bin/faceferry" in dockerfile
