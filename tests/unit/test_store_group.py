"""The group in which the replicas share the faces: they agree on its name, and no device knows it."""

from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.settings import load
from services.store.listener import PLAIN_GROUP, shared_filters
from services.store.settings import StoreSettings

WORD, ANOTHER_WORD = "over-the-sea", "under-the-bridge"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqG\n-----END PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", "mqtts://cloud.example")
    monkeypatch.setenv("FACEFERRY_STORE_URL", "s3://faces")
    monkeypatch.setenv("FACEFERRY_STORE_TOPICS", "faceferry/+/+/face,test_topic")


def group(**settings: Any) -> str:
    """Return the group's name of a store with settings of its own."""
    filters = shared_filters(StoreSettings(**settings))
    names = {topic.split("/")[1] for topic in filters}
    assert [topic.split("/", 2)[2] for topic in filters] == ["faceferry/+/+/face", "test_topic"]
    assert len(names) == 1
    return names.pop()


def key_file(folder: Path, text: str) -> dict[str, Path]:
    path = folder / f"{len(list(folder.iterdir()))}.key"
    path.write_bytes(text.encode())
    return {"cloud_key_file": path, "cloud_cert_file": path}


def test_replicas_with_the_same_key_agree_and_others_do_not(tmp_path: Path) -> None:
    name = group(**key_file(tmp_path, KEY))
    assert name == group(**key_file(tmp_path, KEY))
    assert name == group(**key_file(tmp_path, KEY.replace("\n", "\r\n")))
    assert name != group(**key_file(tmp_path, KEY.replace("AMBM", "AMBN")))
    assert len(name) == 64


def test_without_a_key_the_password_names_it_and_is_not_in_the_name() -> None:
    name = group(cloud_mqtt_password=WORD)
    assert name == group(cloud_mqtt_password=WORD)
    assert name not in (PLAIN_GROUP, group(cloud_mqtt_password=ANOTHER_WORD))
    assert "sea" not in name


def test_a_key_goes_before_a_password_and_a_name_that_is_set_before_both(tmp_path: Path) -> None:
    key = key_file(tmp_path, KEY)
    assert group(**key, cloud_mqtt_password=WORD) == group(**key)
    assert group(**key, store_group="a name of ours") == "a name of ours"


def test_a_store_without_a_secret_is_in_the_plain_group() -> None:
    assert group() == PLAIN_GROUP


def test_a_name_may_come_from_a_file_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "group").write_text("a name of ours\n")
    monkeypatch.setenv("FACEFERRY_STORE_GROUP_FILE", str(tmp_path / "group"))
    settings = load(StoreSettings, [])
    assert shared_filters(settings)[0].startswith("$share/a name of ours/")
    assert "ours" not in repr(settings)


@pytest.mark.parametrize("name", ["a/hidden", "+hidden", "hidden#", "hid\nden", "hidden" * 50])
def test_a_name_that_no_group_can_have_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("FACEFERRY_STORE_GROUP", name)
    with pytest.raises(SystemExit):
        load(StoreSettings, [])
    said = capsys.readouterr().err
    assert said.startswith("FACEFERRY_STORE_GROUP: ")
    assert "hidden" not in said
