"""The settings that the chart gives to store and gallery, read as these read them."""

import os
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from services.common.runtime.addresses import MqttUrl
from services.common.storage.settings import ObjectStoreSettings
from services.gallery.settings import GallerySettings
from services.store.settings import StoreSettings
from tests.chart.helm import CHART, EXAMPLES, render
from tests.chart.objects import Object, container, environment, files, named
from tests.support import faceferry

ROOT = CHART.parents[1]
KINDS: dict[str, type[StoreSettings | GallerySettings]] = {"store": StoreSettings, "gallery": GallerySettings}
READ_ELSEWHERE = {"AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE"}


def put_in_place(workload: Object, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the variables of a container in this process, with files of the folder for those of Secrets."""
    for name in os.environ:
        if name.startswith("FACEFERRY_"):
            monkeypatch.delenv(name)
    held = files(workload)
    told = environment(workload)
    for name, value in told.items():
        if name.endswith("_FILE"):
            assert value in held, f"{name}: {value} comes from no Secret"
            path = folder / value.strip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0123456789abcdef")
        monkeypatch.setenv(name, str(folder / value.strip("/")) if name.endswith("_FILE") else value)
    return told


@pytest.mark.parametrize("part", KINDS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_store_and_gallery_take_what_the_chart_tells_them(
    example: Path, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = named(render(example), "Deployment", f"faces-faceferry-{part}")
    told = put_in_place(workload, tmp_path, monkeypatch)
    urls = told["FACEFERRY_CLOUD_MQTT_URL"].split(",")
    for url in urls:
        TypeAdapter(MqttUrl).validate_python(url)
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", urls[0])
    settings = KINDS[part]()
    assert settings.store_url == told["FACEFERRY_STORE_URL"]
    known = {f"FACEFERRY_{name.upper()}{end}" for name in KINDS[part].model_fields for end in ("", "_FILE")}
    assert told.keys() - known <= READ_ELSEWHERE


@pytest.mark.parametrize("part", KINDS)
def test_what_compose_says_of_its_own_accord_the_chart_says_too(part: str) -> None:
    told = yaml.safe_load((ROOT / "compose/cloud/compose.yaml").read_text())["services"][part]["environment"]
    # Names without a value, and those that only `.env` gives one, are for `store.env`.
    said = {name for name, value in told.items() if value is not None}
    sets = {f"{part}.secrets.aws": "keys"} | (
        {"store.secrets.erase": "key", "store.secrets.notify": "receiver"} if part == "store" else {}
    )
    objects = render(CHART / "examples/small.yaml", sets=sets)
    assert said == environment(named(objects, "Deployment", f"faces-faceferry-{part}")).keys() - {
        "FACEFERRY_LOG_LEVEL"
    }


def test_the_broker_is_told_what_compose_tells_it() -> None:
    services = yaml.safe_load((ROOT / "compose/cloud/compose.yaml").read_text())["services"]
    variants = yaml.safe_load((ROOT / "compose/cloud/websockets.yaml").read_text())["services"]
    said = services["broker"]["environment"].keys() | variants["broker"]["environment"].keys()
    sets = {"broker.testTopic": "porch", "store.topics": "test_topic"}
    told = environment(
        named(render(CHART / "examples/small.yaml", sets=sets), "Deployment", "faces-faceferry-broker-0")
    )
    assert told.keys() == said
    assert (told["TEST_TOPIC"], told["STORE_TOPICS"], told["MEMORY"]) == ("porch", "test_topic", "512m")


@pytest.mark.parametrize("what", ["tidy", "repair"])
def test_the_commands_that_keep_the_index_run_with_what_the_chart_tells_them(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {f"index.{what}.enabled": "true"}
    job = named(render(CHART / "examples/small.yaml", sets=sets), "CronJob", f"faces-faceferry-index-{what}")
    told = put_in_place(job, tmp_path, monkeypatch)
    known = {f"FACEFERRY_{name.upper()}" for name in ObjectStoreSettings.model_fields}
    assert told.keys() - known <= READ_ELSEWHERE
    (tmp_path / "faces").mkdir()
    monkeypatch.setenv("FACEFERRY_STORE_URL", (tmp_path / "faces").as_uri())
    python, module, name, *arguments = container(job)["command"]
    assert (python, module, name) == ("python3", "-m", "services.cli")
    assert faceferry(*arguments) == 0


def test_users_of_brokers_are_those_that_their_rules_know() -> None:
    objects = render(CHART / "examples/small.yaml", sets={"brokers.clients": "passwords"})
    for part in KINDS:
        url = environment(named(objects, "Deployment", f"faces-faceferry-{part}"))["FACEFERRY_CLOUD_MQTT_URL"]
        assert url == f"mqtts://_{part}@faces-faceferry-broker-0:8883"
        assert f"user _{part}\n" in (ROOT / "compose/cloud/broker/acl").read_text()
