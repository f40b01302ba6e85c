"""Variables that no service reads are named; the list of those that one reads is complete."""

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.common.runtime import lifecycle, variables
from services.common.runtime.settings import variables_of
from tests.unit.test_settings_any import SERVICES

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"FACEFERRY_([A-Z0-9_]*[A-Z0-9])\b")
ABBREVIATED = {"CLOUD", "S3", "SEAL", "TEST"}
"""Of sentences such as `FACEFERRY_S3_...`."""


def test_every_setting_of_every_service_is_known() -> None:
    settings = {name for service in SERVICES for name in variables_of(service)}
    assert {f"{variables.PREFIX}{name}" for name in variables.OF_SERVICES} == settings


def test_every_variable_of_compose_files_scripts_and_commands_is_known() -> None:
    folders = ("compose", "scripts", "deploy", "services")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path.read_text(errors="replace") for path in files if path.suffix != ".pyc"]
    named = {name for text in texts for name in NAMED.findall(text)} - ABBREVIATED
    named = {name for name in named if not name.startswith("TEST_") or name == "TEST_TOPIC"}
    missing = named - variables.OF_SERVICES - variables.OF_OTHERS
    assert not missing, f"add to OF_OTHERS in services/common/runtime/variables.py: {sorted(missing)}"
    assert not variables.OF_OTHERS - named, "nothing names these any more"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FACEFERRY_CAMERA", "FACEFERRY_CAMERA: unknown, did you mean FACEFERRY_CAMERAS?"),
        ("FACEFERRY_DEVICE_FILE", "FACEFERRY_DEVICE_FILE: unknown, did you mean FACEFERRY_DEVICE?"),
        ("faceferry_stor_url", "faceferry_stor_url: unknown, did you mean FACEFERRY_STORE_URL?"),
        ("FACEFERRY_XYZZY", "FACEFERRY_XYZZY: unknown, no service reads it"),
    ],
)
def test_a_variable_that_no_service_reads_is_named_with_the_one_that_was_meant(name: str, said: str) -> None:
    assert variables.unknown({name: "x"}) == {name: said}


@pytest.mark.parametrize(
    "name",
    [
        "FACEFERRY_STORE_URL",
        "faceferry_device",
        "FACEFERRY_CAMERAS_FILE",
        "FACEFERRY_UID",
        "FACEFERRY_TEST_SEED",
        "FACEFERRY_STORE_SERVICE_HOST",
        "FACEFERRY_BROKER_PORT_8883_TCP_ADDR",
        "HOME",
    ],
)
def test_a_variable_that_one_service_reads_is_fine_for_all(name: str) -> None:
    assert not variables.unknown({name: "x"})


def test_an_empty_variable_says_nothing() -> None:
    assert not variables.unknown({"FACEFERRY_CAMERA": ""})


def test_a_service_names_them_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve() -> None:
        pass

    monkeypatch.setenv("FACEFERRY_CAMERA", "front=test://")
    with capture_logs() as lines:
        assert lifecycle.run(serve()) == 0
    said = [line for line in lines if line["event"] == "settings.unknown_variable"]
    assert [(line["log_level"], line["problem"]) for line in said] == [
        ("warning", "FACEFERRY_CAMERA: unknown, did you mean FACEFERRY_CAMERAS?")
    ]
