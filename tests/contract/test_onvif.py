"""Finding ONVIF cameras: a program plays one on loopback (`tests.onvif_camera`). No real one was there."""

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest

from services.capture.onvif import client
from services.capture.onvif.client import Login, OnvifFailed, streams
from services.capture.onvif.discovery import OnvifDevice
from services.capture.onvif.search import network_cameras, search
from services.commands import cameras as command
from services.up.brokers import free_port
from tests.onvif_camera import OnvifCamera, envelope, playing
from tests.support import faceferry

SECRET = "sword&fish<17"  # noqa: S105 - it opens a camera of the test's own


def no_login(device: OnvifDevice) -> Login | None:
    raise AssertionError(f"{device} needs no login")


def found(camera: OnvifCamera, login: Login | None = None) -> dict[str, str]:
    return {stream.profile.token: stream.url for stream in streams(device_of(camera), login)}


def device_of(camera: OnvifCamera) -> OnvifDevice:
    return OnvifDevice(camera.address, "")


def test_cameras_are_found_by_multicast_each_once_and_tell_their_streams() -> None:
    port = free_port()
    first = OnvifCamera(host="127.0.0.2", name="Yard")
    with playing(OnvifCamera(), port), playing(first, port):
        answered = search(1.0, ["lo"], port)
        assert {(device.host, device.name) for device in answered} == {
            ("127.0.0.1", "Front door TEST-1"),
            ("127.0.0.2", "Yard TEST-1"),
        }
        listed = network_cameras(answered, no_login)
    assert len(listed) == 4
    assert [camera.url for camera in listed if camera.name == "Yard TEST-1, mainStream"] == [
        "rtsp://127.0.0.2:554/main"
    ]
    formats = {str(one.size): (one.codec, one.fps) for camera in listed for one in camera.formats}
    assert formats == {"1920x1080": ("h264", 25.0), "640x360": ("mjpeg", None)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slow_by": timedelta(days=300)},
        {"has_services": False},
        {"has_media2": True},
        {"wants_http": True},
    ],
)
def test_a_camera_that_wants_to_know_who_asks_is_told_without_the_password(options: dict[str, Any]) -> None:
    with playing(OnvifCamera(user="viewer", password=SECRET, **options)) as camera:
        assert found(camera, Login("viewer", SECRET))["main"] == "rtsp://127.0.0.1:554/main"
        for login in (None, Login("viewer", "wrong")):
            with pytest.raises(OnvifFailed) as answer:
                found(camera, login)
            assert answer.value.wants_user
        assert not any(b"fish" in request for request in camera.requests)


def test_who_wants_the_password_itself_does_not_get_it() -> None:
    camera = OnvifCamera(user="viewer", password=SECRET, wants_http=True, challenge='Basic realm="cam"')
    with playing(camera), pytest.raises(OnvifFailed):
        found(camera, Login("viewer", SECRET))
    assert set(camera.authorizations) == {""}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "no SOAP message"),
        (b"<html>", "no SOAP message"),
        (b"x" * 1_000_000, "no SOAP message"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "no SOAP message"),
        (envelope(""), "it has no media service"),
    ],
)
def test_odd_answers_are_said_in_a_line(says: bytes, why: str) -> None:
    with playing(OnvifCamera(says=says)) as camera, pytest.raises(OnvifFailed, match=why):
        found(camera)


def test_a_camera_that_is_not_there_or_never_comes_to_an_end_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.capture.onvif.search.MOST_S", 1.0)
    ends = threading.Event()

    def wait(_data: bytes, _authorization: str) -> tuple[int, dict[str, str], bytes]:
        ends.wait(30)
        return 200, {}, b""

    with playing(OnvifCamera()) as good, playing(OnvifCamera()) as slow:
        gone = OnvifDevice(f"http://127.0.0.1:{free_port()}/onvif/device_service", "gone")
        slow.answer = wait  # type: ignore[method-assign, assignment]
        listed = network_cameras([device_of(good), device_of(slow), gone], no_login)
        ends.set()
    problems = {camera.url: camera.problem for camera in listed if camera.problem}
    assert problems[slow.address] == "it takes too long to answer"
    assert "refused" in str(problems[gone.address])
    assert len(listed) == 4


def test_the_command_asks_for_the_password_and_prints_it_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    port = free_port()
    where = ("--interface", "lo", "--port", str(port), "--wait", "1", "--json")
    quoted = quote(SECRET)
    uri = f"rtsp://viewer:{quoted}@{{host}}:554/{{profile}}/{quoted}?password={quoted}"
    camera = OnvifCamera(user="viewer", password=SECRET, uri=uri)
    with playing(camera, port), mock.patch.object(command, "cameras_of_this_machine", return_value=()):
        assert faceferry("cameras", *where) == 0
        asked = json.loads(capsys.readouterr().out)
        assert "--user NAME" in asked["problem"]
        name = ("--user", "viewer", "--password-file", str(tmp_path / "password"))
        assert faceferry("cameras", *where, *name) == 0
        told = capsys.readouterr()
        assert faceferry("cameras", "--wait", "0") == 0
    assert "fish" not in told.out + told.err
    main, _sub = (json.loads(line) for line in told.out.splitlines())
    assert main["line"] == "front=rtsp://USER:PASSWORD@127.0.0.1:554/main/PASSWORD?password=PASSWORD"
    assert "no camera found" in capsys.readouterr().out


def test_a_camera_out_of_reach_is_asked_by_name() -> None:
    with playing(OnvifCamera()) as camera:
        options = mock.Mock(wait=0, host=[f"127.0.0.1:{camera.port}"])
        (device,) = command._devices(options)
        assert client.streams(device, None)
