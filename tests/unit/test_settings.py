from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from services.capture.settings import CaptureSettings
from services.common.mqtt.broker import Broker
from services.common.runtime.settings import Settings, describe, load
from services.common.runtime.shared_settings import CloudSettings, DeviceSettings


class Example(DeviceSettings, CloudSettings):
    """example: does nothing."""

    width_px: int = Field(640, ge=1, description="of something, in pixels")
    token: SecretStr | None = Field(None, description="opens it")


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_DEVICE", "porch")
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", "mqtts://porch@cloud.example")


def problems(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        load(Example, [])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_every_bad_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_WIDTH_PX", "wide")
    monkeypatch.setenv("FACEFERRY_DEVICE", "Front Porch")
    monkeypatch.delenv("FACEFERRY_CLOUD_MQTT_URL")
    said = problems(capsys)
    assert "FACEFERRY_WIDTH_PX: " in said
    assert "FACEFERRY_DEVICE: 'Front Porch' is no device name" in said
    assert "FACEFERRY_CLOUD_MQTT_URL: is not set" in said


def test_a_secret_comes_from_its_file_and_stays_out_of_sight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    monkeypatch.setenv("FACEFERRY_TOKEN_FILE", str(tmp_path / "token"))
    settings = load(Example, [])
    assert settings.token is not None
    assert settings.token.get_secret_value() == "open sesame"
    assert "sesame" not in repr(settings)


def test_a_secret_s_missing_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_TOKEN_FILE", "/does/not/exist")
    assert "FACEFERRY_TOKEN_FILE" in problems(capsys)


def test_a_password_in_an_address_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFERRY_LOCAL_MQTT_URL", "mqtt://user:hunter2@host")
    said = problems(capsys)
    assert "FACEFERRY_LOCAL_MQTT_URL" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "url", ["host:1883", "http://host", "mqtt://", "mqtt://host/path", "mqtt://host:port"]
)
def test_what_is_no_broker_s_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("FACEFERRY_LOCAL_MQTT_URL", url)
    assert "FACEFERRY_LOCAL_MQTT_URL" in problems(capsys)


def test_certificate_and_key_go_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FACEFERRY_CLOUD_CERT_FILE", str(tmp_path))
    assert "FACEFERRY_CLOUD_KEY_FILE" in problems(capsys)


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load(Example, ["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "FACEFERRY_WIDTH_PX  [default 640]\n      of something, in pixels" in said
    assert "FACEFERRY_CLOUD_MQTT_URL  [required]" in said
    assert "FACEFERRY_TOKEN (or FACEFERRY_TOKEN_FILE)  [optional]" in said


def test_unknown_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load(Settings, ["--width", "3"])
    assert stopped.value.code == 2
    assert "--width" in capsys.readouterr().err


def test_cameras_with_their_passwords_come_from_a_file_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cameras"
    path.write_text("front=rtsp://admin:s3cret@10.0.0.7/live\nyard=test://\n")
    monkeypatch.setenv("FACEFERRY_CAMERAS_FILE", str(path))
    settings = load(CaptureSettings, [])
    assert [camera.name for camera in settings.cameras] == ["front", "yard"]
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("FACEFERRY_CAMERAS", "other=test://")
    assert [camera.name for camera in load(CaptureSettings, []).cameras] == ["other"]
    monkeypatch.setenv("FACEFERRY_CAMERAS", "")
    for content, said in (("front=rtsp://a:s3cret@h/?fps=x", "fps=x is not"), ("", "is not set")):
        path.write_text(content)
        with pytest.raises(SystemExit):
            load(CaptureSettings, [])
        problem = capsys.readouterr().err
        assert said in problem
        assert "s3cret" not in problem


def test_the_cameras_file_is_in_the_help() -> None:
    assert "FACEFERRY_CAMERAS (or FACEFERRY_CAMERAS_FILE)" in describe(CaptureSettings)


def test_several_brokers_stand_in_one_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", "mqtts://a.example, wss://porch@b.example/mqtt,")
    settings = load(Example, [])
    assert settings.cloud_mqtt_url == ("mqtts://a.example", "wss://porch@b.example/mqtt")
    assert [(each.address, each.user) for each in Broker.cloud(settings)] == [
        ("a.example:8883", None),
        ("b.example:443", "porch"),
    ]


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        (",", "1 to 16 brokers are wanted, not 0"),
        ("mqtts://a.example,http://b.example", "an address such as"),
        ("mqtts://a.example,mqtts://porch@a.example:8883", "a.example:8883 stands there twice"),
        (",".join(f"mqtt://h{number}" for number in range(17)), "1 to 16 brokers are wanted, not 17"),
    ],
)
def test_a_list_of_brokers_that_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], urls: str, said: str
) -> None:
    monkeypatch.setenv("FACEFERRY_CLOUD_MQTT_URL", urls)
    assert f"FACEFERRY_CLOUD_MQTT_URL: {said}" in problems(capsys)
