import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import S3Store as Client

from services.common.errors import SetupError
from services.common.runtime.settings import load
from services.common.storage.locations import Bucket, FolderLocation, parse_location
from services.common.storage.s3_client import Clients, S3Settings
from services.common.storage.settings import ObjectStoreSettings
from services.store.listener import shared_filters
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
        ("file:///srv/faces", FolderLocation(Path("/srv/faces"))),
        ("file:///srv/my%20faces", FolderLocation(Path("/srv/my faces"))),
        ("file:///srv/my faces", FolderLocation(Path("/srv/my faces"))),
        ("file:///srv/a%23b%3Fc%25", FolderLocation(Path("/srv/a#b?c%"))),
        ("file:///srv/%C3%A9", FolderLocation(Path("/srv/\N{LATIN SMALL LETTER E WITH ACUTE}"))),
        ("file:///srv/../faces", FolderLocation(Path("/srv/../faces"))),
        ("s3://My_faces.1/a b/x=1+2&c%23", Bucket("My_faces.1", "a b/x=1+2&c#")),
    ],
)
def test_store_url_is_read(url: str, location: Bucket | FolderLocation) -> None:
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
        "file:///srv/a#b",
        "file:///srv/a?b",
        "file:///srv/a?",
        "file:///srv/caf%E9",
        "file:///srv/50%off",
        "file:///srv/50%",
        "file:///srv/a%00b",
        "file:///srv/a%0Ab",
        "file:///srv/a%E2%80%A8b",
        "file:///srv/a\nb",
        "file:///srv/a\tb",
        " file:///srv/a",
        "file:///srv/caf\udce9",
        "file:///srv/" + "n" * 256,
        "s3://b/a#b",
        "s3://b//x//y/",
        "s3://b//",
        "s3://b/../x",
        "s3://b/a/../b",
        "s3://b/./x",
        "s3://b/%2E%2E/x",
        "s3://b/%00x",
        "s3://b/x\r\n",
        "s3://b/a%7Fb",
        "s3://b/caf%E9",
        "s3://b/50%off",
        "s3://b:9000/x",
        "s3://[::1]/x",
        "s3://b b/x",
        "s3://b%41/x",
        "s3://b/" + "p" * 801,
    ],
)
def test_other_store_url_stops_the_service(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_STORE_URL", url)
    with pytest.raises(SystemExit) as caught:
        load(StoreSettings, [])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("FACEFERRY_STORE_URL: ")
    assert "secret" not in line


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5))
def test_faces_lie_in_the_very_folder_that_a_url_names_or_nowhere(names: list[str]) -> None:
    path = Path("/", *names)
    try:
        assert parse_location(path.as_uri()) == FolderLocation(path)
    except (ValueError, UnicodeEncodeError):
        assert (
            any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in str(path)) or len(str(path)) > 60
        )


@given(st.text(max_size=30))
def test_a_prefix_is_one_that_the_client_takes_as_it_is_or_refused(text: str) -> None:
    try:
        location = parse_location(f"s3://faces/{text}")
    except ValueError:
        return
    assert isinstance(location, Bucket)
    client = Client(location.name, prefix=location.prefix, config={"region": "us-east-1"})
    assert (client.prefix or "") == location.prefix
    assert location.prefix == unquote(text).removesuffix("/").removeprefix("/")


@pytest.mark.parametrize(
    "url",
    [
        "s3.example.org",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://h h",
        "http://[::1",
        "http://h?x=1",
        "http://h#x",
        "http://h\n",
        "http://user:secret@h",
    ],
)
def test_an_address_of_no_s3_server_stops_the_service(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_S3_ENDPOINT_URL", url)
    with pytest.raises(SystemExit) as caught:
        load(StoreSettings, [])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("FACEFERRY_S3_ENDPOINT_URL: ")
    assert "secret" not in line
    monkeypatch.delenv("FACEFERRY_S3_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(SetupError, match="AWS_ENDPOINT_URL: "):
        Clients(Bucket("faces", ""), S3Settings())


@pytest.mark.parametrize("region", ["eu west", "a\nb", "\N{LATIN SMALL LETTER E WITH ACUTE}", "eu/west"])
def test_a_region_that_is_none_stops_the_service(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with pytest.raises(SetupError, match="AWS_DEFAULT_REGION"):
        Clients(Bucket("faces", ""), S3Settings())


def test_a_key_for_encryption_wants_encryption_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_S3_KMS_KEY_ID", "arn:aws:kms:x:1:key/2")
    for algorithm in ("", "AES256", "rot13"):
        monkeypatch.setenv("FACEFERRY_S3_SERVER_SIDE_ENCRYPTION", algorithm)
        with pytest.raises(SystemExit):
            load(StoreSettings, [])
        assert "FACEFERRY_S3_SERVER_SIDE_ENCRYPTION" in capsys.readouterr().err
    monkeypatch.setenv("FACEFERRY_S3_SERVER_SIDE_ENCRYPTION", "aws:kms")
    assert load(StoreSettings, []).s3_kms_key_id == "arn:aws:kms:x:1:key/2"


def test_topics_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(StoreSettings, []).store_topics == ("faceferry/+/+/face", "test_topic")
    monkeypatch.setenv("FACEFERRY_STORE_TOPICS", "faceferry/porch/+/face, photos/#")
    assert load(StoreSettings, []).store_topics == ("faceferry/porch/+/face", "photos/#")


def test_a_topic_that_names_its_camera_is_subscribed_to_as_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_STORE_TOPICS", "faceferry/+/+/face,cam/{camera}/faces,hw03=lab/door")
    shared = [topic.split("/", 2)[2] for topic in shared_filters(load(StoreSettings, []))]
    assert shared == ["faceferry/+/+/face", "cam/+/faces", "hw03"]


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
