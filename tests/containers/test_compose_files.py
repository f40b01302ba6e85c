"""What needs no running container."""

import itertools
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.containers.engine import ROOT, start_engine


def any_of(*names: str) -> list[tuple[str, ...]]:
    """Every selection of names, none of them included."""
    return [some for count in range(len(names) + 1) for some in itertools.combinations(names, count)]


# A device has one kind of GPU, or none.
EDGE_FILES = [
    (*gpu, *others)
    for gpu in [(), ("gpu.yaml",), ("jetson.yaml",)]
    for others in any_of("passwords.yaml", "live.yaml", "home-assistant.yaml")
]
EDGE = list(itertools.product(EDGE_FILES, any_of("metrics")))
CLOUD = list(
    itertools.product(
        any_of("passwords.yaml", "websockets.yaml", "gallery-erases.yaml"),
        any_of("selfhost", "gallery", "metrics"),
    )
)


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    start_engine()


def config(folder: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FACEFERRY_")}
    return subprocess.run(
        ["docker", "compose", *arguments, "config", "-q"],
        cwd=ROOT / "compose" / folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_clean(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def named(files: Sequence[str], profiles: Sequence[str]) -> list[str]:
    given = [part for file in ("compose.yaml", *files) for part in ("-f", file)]
    return ["--env-file", ".env.example", *given, *(part for one in profiles for part in ("--profile", one))]


@pytest.mark.parametrize(("files", "profiles"), EDGE)
def test_edge_files_are_clean_with_the_example_settings(
    files: tuple[str, ...], profiles: tuple[str, ...]
) -> None:
    assert_clean(config("edge", *named(files, profiles)))


@pytest.mark.parametrize(("files", "profiles"), CLOUD)
def test_cloud_files_are_clean_with_the_example_settings(
    files: tuple[str, ...], profiles: tuple[str, ...]
) -> None:
    assert_clean(config("cloud", *named(files, profiles)))


@pytest.mark.parametrize(
    ("folder", "profiles", "files"),
    [
        ("edge", ("metrics",), ("live.yaml",)),
        ("cloud", ("selfhost", "gallery", "metrics", "pki"), ()),
        ("cloud", ("gallery",), ("live.yaml",)),
    ],
)
def test_every_container_is_confined_and_what_shows_faces_or_figures_is_for_this_machine_alone(
    folder: str, profiles: tuple[str, ...], files: tuple[str, ...]
) -> None:
    """Of those that other tests run, they also ask the engine."""
    told = subprocess.run(
        ["docker", "compose", *named(files, profiles), "config", "--format", "json"],
        cwd=ROOT / "compose" / folder,
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(told.stdout)["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert int(service["mem_limit"]) > 0, name
        assert 64 <= service["pids_limit"] <= 1024, name
        if name != "broker":
            assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}, name


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        *(("edge", files) for files in any_of("passwords.yaml", "live.yaml", "home-assistant.yaml")),
        *(("cloud", files) for files in any_of("passwords.yaml", "live.yaml", "gallery-erases.yaml")),
    ],
)
def test_each_file_with_a_secret_that_a_service_is_told_of_is_there(
    folder: str, files: tuple[str, ...]
) -> None:
    """An override names all of a service's secrets anew, and easily forgets those that came later."""
    told = subprocess.run(
        ["docker", "compose", *named(files, ("gallery",)), "config", "--format", "json"],
        cwd=ROOT / "compose" / folder,
        capture_output=True,
        text=True,
        check=True,
    )
    for name, service in json.loads(told.stdout)["services"].items():
        there = {secret["target"] for secret in service.get("secrets", ())}
        values = (value for value in (service.get("environment") or {}).values() if value)
        wanted = {value for value in values if value.startswith("/run/secrets/")}
        assert wanted <= there, name


def test_another_s_broker_may_be_in_the_place_of_the_device_s_own() -> None:
    told = subprocess.run(
        ["docker", "compose", *named(("their-broker.yaml",), ()), "config", "--format", "json"],
        cwd=ROOT / "compose/edge",
        env=os.environ | {"FACEFERRY_LOCAL_MQTT_URL": "mqtt://faceferry@homeassistant.local:1883"},
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(told.stdout)["services"]
    assert services.keys() == {"capture", "detect", "forward"}
    for service in services.values():
        assert not service.get("depends_on")
        assert service["environment"]["FACEFERRY_LOCAL_MQTT_URL"].startswith("mqtt://faceferry@")
        assert "local-password" in {secret["source"] for secret in service["secrets"]}
    assert len(services["forward"]["secrets"]) == 7


def test_what_makes_certificates_has_no_network_and_sees_no_other_folder() -> None:
    told = subprocess.run(
        ["docker", "compose", *named((), ("pki", "gallery")), "config", "--format", "json"],
        cwd=ROOT / "compose/cloud",
        capture_output=True,
        text=True,
        check=True,
    )
    services = json.loads(told.stdout)["services"]
    pki = services.pop("pki")
    folder = str(ROOT / "compose/cloud/secrets")
    assert pki["network_mode"] == "none"
    assert [(one["source"], one["target"]) for one in pki["volumes"]] == [(folder, "/secrets")]
    assert not pki.get("secrets")
    for service in services.values():
        assert folder not in {one["source"] for one in service.get("volumes", ())}


@pytest.mark.parametrize(("folder", "service"), [("edge", "detect"), ("cloud", "store")])
@pytest.mark.parametrize("count", [1, 3])
def test_how_many_share_the_work_is_a_setting(folder: str, service: str, count: int) -> None:
    wanted = {f"FACEFERRY_{service.upper()}_REPLICAS": str(count)} if count > 1 else {}
    told = subprocess.run(
        ["docker", "compose", *named((), ()), "config", "--format", "json"],
        cwd=ROOT / "compose" / folder,
        env=os.environ | wanted,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["services"][service]["deploy"]["replicas"] == count


@pytest.mark.parametrize("clip", ["/clip.mp4", ""])
def test_dev_file_is_clean_with_and_without_a_clip(clip: str) -> None:
    assert_clean(config(".", "-f", "dev.compose.yaml", **({"FACEFERRY_CLIP": clip} if clip else {})))


DIGEST = f"@sha256:{'0' * 64}"
IMAGES = {
    "FACEFERRY_PYTHON_IMAGE": "python:3.13-slim-trixie",
    "FACEFERRY_MOSQUITTO_IMAGE": "eclipse-mosquitto:2",
    "FACEFERRY_PROMETHEUS_IMAGE": "prom/prometheus:v3",
    "FACEFERRY_GRAFANA_IMAGE": "grafana/grafana:12.3.0",
    "FACEFERRY_VERSITYGW_IMAGE": "versity/versitygw:v1.7.0",
}


@pytest.mark.parametrize(
    ("folder", "profiles"), [("edge", ("metrics",)), ("cloud", ("selfhost", "gallery", "metrics"))]
)
def test_every_foreign_image_can_be_named_by_its_digest(folder: str, profiles: tuple[str, ...]) -> None:
    told = subprocess.run(
        ["docker", "compose", *named((), profiles), "config", "--format", "json"],
        cwd=ROOT / "compose" / folder,
        env=os.environ | {name: f"{image}{DIGEST}" for name, image in IMAGES.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    for name, service in json.loads(told.stdout)["services"].items():
        image = service["build"]["args"]["BASE"] if "build" in service else service["image"]
        assert image.endswith(DIGEST), name


def test_cameras_may_come_from_a_file_in_place_of_the_environment(tmp_path: Path) -> None:
    example = (ROOT / "compose/edge/.env.example").read_text()
    (tmp_path / ".env").write_text(example.replace("FACEFERRY_CAMERAS=", "#FACEFERRY_CAMERAS="))
    told = subprocess.run(
        ["docker", "compose", "--env-file", str(tmp_path / ".env"), "config", "--format", "json"],
        cwd=ROOT / "compose/edge",
        env=os.environ | {"FACEFERRY_CAMERAS_FILE": str(tmp_path / "cameras")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(told.stdout)
    capture = found["services"]["capture"]
    assert not capture["environment"].get("FACEFERRY_CAMERAS")
    assert capture["environment"]["FACEFERRY_CAMERAS_FILE"] == "/run/secrets/cameras"
    assert [secret["source"] for secret in capture["secrets"]] == ["cameras"]
    assert found["secrets"]["cameras"]["file"] == str(tmp_path / "cameras")


@pytest.mark.parametrize("folder", ["edge", "cloud"])
def test_without_settings_the_first_missing_one_is_named(folder: str) -> None:
    done = config(folder, "--env-file", "/dev/null")
    assert done.returncode != 0
    assert ".env.example explains" in done.stderr
