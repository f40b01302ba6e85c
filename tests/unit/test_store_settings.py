from pathlib import Path

import pytest

from services.common.settings import load
from services.common.storage.locations import Bucket, Folder, parse_location
from services.common.storage.settings import ObjectStoreSettings
from services.store.settings import StoreSettings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", "mqtt://127.0.0.1:1883")
    monkeypatch.setenv("FACEFERRY_STORE_URL", "s3://faces/home")
    monkeypatch.delenv("FACEFERRY_DEVICE", raising=False)


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://faces", Bucket("faces", "")),
        ("s3://faces/", Bucket("faces", "")),
        ("s3://faces/a/b/", Bucket("faces", "a/b")),
        ("file:///srv/faces", Folder(Path("/srv/faces"))),
        ("file:///srv/my%20faces", Folder(Path("/srv/my faces"))),
    ],
)
def test_store_url_is_read(url: str, location: Bucket | Folder) -> None:
    assert parse_location(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "faces",
        "/srv/faces",
        "s3:///prefix",
        "s3://key:secret@faces",
        "file://host/x",
        "gs://b",
        "s3://b?x",
    ],
)
def test_other_store_url_stops_the_service(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_STORE_URL", url)
    with pytest.raises(SystemExit) as caught:
        load(StoreSettings, [])
    assert caught.value.code == 2
    assert "FACEFERRY_STORE_URL" in capsys.readouterr().err


def test_topics_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(StoreSettings, []).store_topics == ("faceferry/+/+/face", "test_topic")
    monkeypatch.setenv("FACEFERRY_STORE_TOPICS", "faceferry/porch/+/face, photos/#")
    assert load(StoreSettings, []).store_topics == ("faceferry/porch/+/face", "photos/#")


def test_room_for_less_than_a_face_stops_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_STORE_MAX_WAITING_BYTES", "2048")
    with pytest.raises(SystemExit):
        load(StoreSettings, [])
    assert "less than one face" in capsys.readouterr().err


def test_reading_the_store_asks_for_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEFERRY_CLOUD_MQTT_URL")
    assert load(ObjectStoreSettings, []).store_url == "s3://faces/home"
