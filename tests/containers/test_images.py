import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.containers.engine import IMAGES, ROOT, SERVICES, docker, image, mirrors

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("images")]

MOST_MB = {"forward": 250, "store": 250, "capture": 450, "detect": 600}


def test_images_are_small(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: json.loads(docker("inspect", image(name)))[0]["Size"] / 1e6 for name in SERVICES}
    with capsys.disabled():
        sys.stdout.write("\n" + "".join(f"{name:8} {size:5.0f} MB\n" for name, size in sizes.items()))
    assert {name: size for name, size in sizes.items() if size > MOST_MB[name]} == {}


@pytest.mark.parametrize("service", SERVICES)
def test_image_says_what_it_is(service: str) -> None:
    config = json.loads(docker("inspect", image(service)))[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Entrypoint"] == ["python3", "-m", f"services.{service}"]
    assert config["Labels"]["org.opencontainers.image.title"] == f"faceferry {service}"


@pytest.mark.parametrize("service", SERVICES)
def test_image_holds_its_own_service_and_no_build_tools(service: str) -> None:
    there = docker(
        "run", "--rm", "--entrypoint", "ls", image(service), "/opt/faceferry/services", "/opt/packages"
    )
    names = set(there.split())
    assert {other for other in SERVICES if other in names} == {service}
    assert not {"hatchling", "pip", "setuptools", "wheel"} & names


@pytest.mark.parametrize("service", SERVICES)
def test_the_command_is_in_every_image(service: str) -> None:
    run = ("run", "--rm", "--entrypoint", "faceferry", image(service))
    assert docker(*run, "--version").startswith("faceferry ")
    assert "HOST:PORT" in docker(*run, "status", "--help")


@pytest.mark.parametrize("service", SERVICES)
def test_wrong_settings_are_named_in_a_moment(service: str) -> None:
    """To the point of reading its settings, everything is imported."""
    started = time.monotonic()
    done = subprocess.run(
        ["docker", "run", "--rm", "-e", "FACEFERRY_LOG_LEVEL=loud", image(service)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "FACEFERRY_LOG_LEVEL" in done.stderr
    assert time.monotonic() - started < 10


def test_detect_has_its_model_and_reports_to_nobody() -> None:
    asked = (
        "import os; from pathlib import Path; from services.detect.models import list_models;"
        "print(os.environ['ORT_DISABLE_TELEMETRY'],"
        "*(found.state for found in list_models(Path(os.environ['FACEFERRY_MODEL_DIR']))))"
    )
    assert (
        docker("run", "--rm", "--entrypoint", "python3", image("detect"), "-c", asked).strip()
        == "1 ok ok missing"
    )


def test_detect_is_not_built_without_the_provider_that_is_asked_for() -> None:
    dockerfile = f"{ROOT}/services/detect/Dockerfile"
    done = subprocess.run(
        ["docker", "build", "-f", dockerfile, "--build-arg", "PROVIDER=CUDAExecutionProvider", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no CUDAExecutionProvider in this ONNX Runtime" in done.stderr


def test_detect_is_not_built_with_another_model(tmp_path: Path) -> None:
    """A file of the right name that is not the model, as an image in the place of the download."""
    for name in ("yunet_n_dynamic.onnx", "yunet_s_dynamic.onnx"):
        (tmp_path / name).write_bytes(b"not a model")
    tag = f"{IMAGES}/forged-models"
    docker("build", "-q", "-t", tag, "-f", "-", str(tmp_path), input_text="FROM scratch\nCOPY *.onnx /\n")
    dockerfile = f"{ROOT}/services/detect/Dockerfile"
    done = subprocess.run(
        ["docker", "build", "-f", dockerfile, "--build-arg", f"MODELS={tag}", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    docker("image", "rm", tag)
    assert done.returncode != 0
    assert "not the models that are named: ['yunet_n', 'yunet_s']" in done.stderr


def build_detect(*options: str) -> subprocess.CompletedProcess[str]:
    """Build detect's image from its cached packages; the models, if they are asked for, are got anew."""
    given = [part for name in mirrors() for part in ("--build-arg", name)]
    anew = ["--no-cache-filter", "fetched,unpacked", "--progress", "plain"]
    return subprocess.run(
        ["docker", "build", *anew, "-f", f"{ROOT}/services/detect/Dockerfile", *given, *options, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_models_address_the_build_names_the_setting() -> None:
    done = build_detect("--build-arg", "https_proxy=http://127.0.0.1:9")
    assert done.returncode != 0
    for said in ("put into .env", "FACEFERRY_MODELS_IMAGE=packaged", "raw.githubusercontent.com"):
        assert said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_an_image_may_hold_centerface_in_place_of_yunet() -> None:
    tag = f"{IMAGES}/detect:packaged"
    done = build_detect("--build-arg", "MODELS=packaged", "-t", tag)
    assert done.returncode == 0, done.stderr
    run = ("run", "--rm", "--network", "none", "--read-only", "-e", "FACEFERRY_DETECTOR=centerface")
    said = docker(*run, "--entrypoint", "faceferry", tag, "models")
    docker("image", "rm", tag)
    assert "taken: centerface: its model is /opt/models/centerface.onnx" in said
