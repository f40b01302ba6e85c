"""Whatever stands in a setting: it is taken, or one line names it and the status is 2. Nothing else."""

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.capture.settings import CaptureSettings
from services.common.mqtt.broker import Broker
from services.common.runtime.settings import Settings, load
from services.common.runtime.shared_settings import CloudSettings, DeviceSettings
from services.detect.settings import DetectSettings
from services.forward.settings import ForwardSettings
from services.gallery.settings import GallerySettings
from services.store.settings import StoreSettings

SERVICES: tuple[type[Settings], ...] = (
    CaptureSettings,
    DetectSettings,
    ForwardSettings,
    StoreSettings,
    GallerySettings,
)
GOOD = {
    "FACEFERRY_DEVICE": b"porch",
    "FACEFERRY_LOCAL_MQTT_URL": b"mqtt://127.0.0.1:1883",
    "FACEFERRY_CLOUD_MQTT_URL": b"mqtts://porch@cloud.example:8883",
    "FACEFERRY_CAMERAS": b"front=rtsp://user:word@10.0.0.7/main?fps=5,yard=v4l2:///dev/video0?size=640x480",
    "FACEFERRY_STORE_URL": b"s3://bucket/a/prefix",
    "FACEFERRY_STORE_TOPICS": b"faceferry/+/+/face,test_topic",
    "FACEFERRY_STORE_GROUP": b"known to us alone",
    "FACEFERRY_GALLERY_TOKEN": b"sixteen letters!",
}
ODD = (
    b"",
    b" ",
    b"\n",
    b"a\r\nb",
    b"\xff\xfe",
    "\u2028".encode(),
    "caf\u00e9".encode(),
    b"%00",
    b"%ff",
    b"%",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"0x10",
    "\u00b2".encode(),
    b"true",
    b"null",
    b"{}",
    b"[1]",
    b",",
    b"a/#/b",
    b"[::1",
    b"a..b",
    b"/",
    b"/dev/null/x",
    b"/dev/full",
    b"9" * 30,
    b"9" * 5_000,
    b"x" * 100_000,
)


def variables(service: type[Settings]) -> list[str]:
    """Return all variables that a service reads, those that name a secret's file too."""
    names = [f"FACEFERRY_{name.upper()}" for name in service.model_fields]
    secrets = [
        f"FACEFERRY_{name.upper()}_FILE"
        for name, field in service.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]
    return names + secrets


def said_of(service: type[Settings], environment: dict[str, bytes]) -> tuple[Settings | None, list[str]]:
    """Return the settings, or None and what was said instead; anything but that fails."""
    said = io.StringIO()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FACEFERRY_")}
    with mock.patch.dict(os.environ, clean, clear=True), contextlib.redirect_stderr(said):
        os.environ |= {name: os.fsdecode(value) for name, value in (GOOD | environment).items()}
        try:
            return load(service, []), []
        except SystemExit as stopped:
            status = stopped.code
    assert status == 2
    return None, said.getvalue().splitlines()


def see(service: type[Settings], variable: str, value: bytes) -> None:
    """See that a value is taken, and what is made of it at once works; or that a line names it."""
    taken, lines = said_of(service, {variable: value})
    if taken is None:
        assert any(variable in line for line in lines), lines
        for line in lines:
            assert line.startswith("FACEFERRY_"), line
            assert line.isprintable(), line
            assert len(line) < 400
        return
    taken.http_host.encode("idna")
    brokers = [Broker.local(taken)] if isinstance(taken, DeviceSettings) else []
    brokers += Broker.cloud(taken) if isinstance(taken, CloudSettings) else []
    for broker in brokers:
        broker.host.encode("idna")
        assert 0 < broker.port < 65_536
        assert len((broker.user or "").encode()) < 65_536
        assert len((broker.password or "").encode()) < 65_536


def without_nul(value: bytes) -> bytes:
    return value.replace(b"\0", b"\1")  # no variable can hold it


@st.composite
def assignments(draw: st.DrawFn) -> tuple[type[Settings], str, bytes]:
    """Draw one of a service's variables and something for it: odd, or nearly good."""
    service = draw(st.sampled_from(SERVICES))
    variable = draw(st.sampled_from(variables(service)))
    junk = draw(st.sampled_from(ODD) | st.binary(max_size=30).map(without_nul))
    good = GOOD.get(variable, b"")
    at = draw(st.integers(0, len(good)))
    return service, variable, draw(st.sampled_from((junk, good[:at] + junk + good[at:])))


@settings(max_examples=400)
@given(assignments())
@example((ForwardSettings, "FACEFERRY_CLOUD_MQTT_URL", b"mqtt://\xff@127.0.0.1"))
@example((ForwardSettings, "FACEFERRY_CLOUD_MQTT_URL", b"mqtt://" + b"u" * 70_000 + b"@127.0.0.1"))
@example((ForwardSettings, "FACEFERRY_CLOUD_MQTT_URL", b"mqtt://a..b"))
@example((ForwardSettings, "FACEFERRY_CLOUD_MQTT_PASSWORD", b"x" * 70_000))
@example((ForwardSettings, "FACEFERRY_CLOUD_CA_FILE", b"/\xff"))
@example((ForwardSettings, "FACEFERRY_CLOUD_CA_FILE", b"x" * 5_000))
@example((CaptureSettings, "FACEFERRY_CAMERAS", b"front=v4l2:///dev/video0?size=\x80"))
@example((CaptureSettings, "FACEFERRY_LOCAL_MQTT_PASSWORD_FILE", b"/dev/full"))
@example((StoreSettings, "FACEFERRY_HTTP_HOST", b"a..b"))
@example((GallerySettings, "FACEFERRY_GALLERY_TOKEN", b"sixteen letters!\xff"))
def test_any_setting_is_taken_or_named(assignment: tuple[type[Settings], str, bytes]) -> None:
    see(*assignment)


@given(service=st.sampled_from(SERVICES), content=st.binary(max_size=60) | st.sampled_from(ODD))
@example(service=ForwardSettings, content=b"\xff\xfe")
@example(service=ForwardSettings, content=b"x" * 70_000)
def test_any_file_of_a_secret_is_taken_or_named(service: type[Settings], content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        for variable in variables(service):
            if variable.endswith(("PASSWORD_FILE", "TOKEN_FILE")):
                plain = {variable.removesuffix("_FILE"): b""}
                taken, lines = said_of(service, {**plain, variable: file.name.encode()})
                assert taken is not None or all(line.startswith(variable[:-5]) for line in lines), lines


def test_an_endless_file_is_no_secret() -> None:
    taken, lines = said_of(ForwardSettings, {"FACEFERRY_CLOUD_MQTT_PASSWORD_FILE": b"/dev/zero"})
    assert taken is None
    assert "FACEFERRY_CLOUD_MQTT_PASSWORD" in lines[0]


def test_an_empty_file_says_nothing_as_an_empty_variable_does() -> None:
    taken, _lines = said_of(ForwardSettings, {"FACEFERRY_CLOUD_MQTT_PASSWORD_FILE": b"/dev/null"})
    assert isinstance(taken, ForwardSettings)
    assert taken.cloud_mqtt_password is None


@pytest.mark.parametrize("service", SERVICES)
def test_no_number_is_without_an_end(service: type[Settings]) -> None:
    numbers = [name for name, field in service.model_fields.items() if field.annotation in (int, float)]
    assert numbers
    for name in numbers:
        for value in (b"9" * 30, b"inf", b"nan", b"-inf"):
            assert said_of(service, {f"FACEFERRY_{name.upper()}": value})[0] is None, (name, value)


@pytest.mark.parametrize(
    "url", [b"mqtt://ho\nst", b"mqtt://host\n", b"mqtt://host#x", b"mqtt://us%00er@host"]
)
def test_an_address_is_not_cut_in_silence(url: bytes) -> None:
    assert said_of(ForwardSettings, {"FACEFERRY_CLOUD_MQTT_URL": url})[0] is None


@pytest.mark.parametrize(
    "filters", [b"a/#/b", b"a+/b", b"#a", b"$share/x/y", b"x" * 70_000, b"\xff", b",", b"a\nb"]
)
def test_what_no_broker_takes_is_no_topic_filter(filters: bytes) -> None:
    taken, lines = said_of(StoreSettings, {"FACEFERRY_STORE_TOPICS": filters})
    assert taken is None
    assert len(lines) == 1
    assert lines[0].startswith("FACEFERRY_STORE_TOPICS: ")


@pytest.mark.parametrize("filters", [b"#", b"+/a/#", b"test_topic", "caf\u00e9/+".encode()])
def test_what_a_broker_takes_is_a_topic_filter(filters: bytes) -> None:
    assert said_of(StoreSettings, {"FACEFERRY_STORE_TOPICS": filters})[0] is not None
