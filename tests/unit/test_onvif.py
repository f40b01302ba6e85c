import base64
import hashlib
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.capture.onvif import messages
from services.capture.onvif.client import Login, OnvifStream, without_login
from services.capture.onvif.discovery import MOST_BYTES, NotXml, OnvifDevice, devices, named, parse, probe
from services.capture.onvif.messages import MEDIA, MEDIA2, Profile
from services.capture.options import Size
from services.capture.source.v4l2 import Format
from tests import onvif_camera

ID = "urn:uuid:1"


def match(xaddrs: str, scopes: str = "", relates: str = ID) -> bytes:
    body = f"<d:ProbeMatches><d:ProbeMatch><d:Scopes>{scopes}</d:Scopes><d:XAddrs>{xaddrs}</d:XAddrs>"
    header = f"<a:RelatesTo>{relates}</a:RelatesTo>"
    return onvif_camera.envelope(f"{body}</d:ProbeMatch></d:ProbeMatches>", header)


def test_the_question_names_cameras_and_itself() -> None:
    text = probe("urn:uuid:7").decode()
    assert parse(text.encode()) is not None
    assert "urn:uuid:7" in text
    assert "dn:NetworkVideoTransmitter" in text


def test_a_camera_is_at_its_own_address_and_has_a_name() -> None:
    data = match(
        "http://[fe80::1]/onvif http://192.0.2.9:8080/onvif/device_service",
        "onvif://www.onvif.org/hardware/DS-1 onvif://www.onvif.org/name/Front%20door%1b%5b",
    )
    device = OnvifDevice("http://192.0.2.9:8080/onvif/device_service", "Front door [ DS-1")
    assert devices(data, "192.0.2.9", ID) == (device,)
    assert device.host == "192.0.2.9"
    assert named("192.0.2.9").host == "192.0.2.9"


@pytest.mark.parametrize(
    "data",
    [
        match("http://192.0.2.10/onvif"),  # somebody else's
        match("ftp://192.0.2.9/onvif"),
        match("http://192.0.2.9:99999/"),
        match("http://192.0.2.9/", relates="urn:uuid:2"),
        match(""),
        b"",
        b"nonsense",
    ],
)
def test_who_names_others_or_answers_nothing_of_ours_is_no_camera(data: bytes) -> None:
    assert devices(data, "192.0.2.9", ID) == ()


@given(st.binary(max_size=200))
def test_no_datagram_is_too_odd(data: bytes) -> None:
    found = devices(match("http://192.0.2.9/")[: len(data)] + data, "192.0.2.9", ID)
    assert {device.host for device in found} <= {"192.0.2.9"}


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"),
        b"<a>" + b" " * MOST_BYTES + b"</a>",
        b"<a>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
    ],
)
def test_xml_that_could_mean_harm_is_not_read(data: bytes) -> None:
    with pytest.raises(NotXml):
        parse(data)


def test_comments_and_cdata_are_harmless() -> None:
    assert parse(b"<a><!-- b --><![CDATA[c]]></a>").text == "c"


def test_the_password_goes_as_a_digest_that_only_who_knows_it_can_make() -> None:
    header = messages.token("a<b", "secret", b"0123", datetime(2026, 1, 31, 12, tzinfo=UTC))
    text = messages.envelope(MEDIA, "<GetProfiles/>", header).decode()
    assert parse(text.encode()) is not None
    assert "secret" not in text
    right = hashlib.sha1(b"0123" + b"2026-01-31T12:00:00Z" + b"secret").digest()  # noqa: S324
    assert base64.b64encode(right).decode() in text
    assert re.search(r"Username>a&lt;b<", text)


def test_a_profiles_token_is_no_markup() -> None:
    for space in (MEDIA, MEDIA2):
        text = messages.envelope(space, messages.stream_uri(space, "</ProfileToken><a/>"))
        assert b"<a/>" not in text
        assert parse(text) is not None


@pytest.mark.parametrize(
    ("uri", "is_usable"),
    [
        ("rtsp://192.0.2.9:554/a", True),
        ("rtsps://192.0.2.9/a", True),
        ("http://192.0.2.9/a", False),
        ("rtsp://[192/a", False),
        ("rtsp:///a", False),
        ("rtsp://192.0.2.9:99999/", False),
        ("rtsp://192.0.2.9/a\x7fb", False),
        ("rtsp://192.0.2.9/" + "a" * 2000, False),
        ("", False),
    ],
)
def test_an_address_is_one_that_can_be_used(uri: str, is_usable: bool) -> None:
    answer = parse(f"<a><Uri>{uri}</Uri></a>".encode())
    assert messages.address(answer) == (uri if is_usable else None)


def test_what_a_camera_does_not_say_is_not_made_up() -> None:
    answer = parse(b'<a><Profiles token="t"><VideoEncoderConfiguration/></Profiles><Profiles token="u"/></a>')
    assert messages.profiles(answer) == (Profile("t", "", None),)
    assert messages.camera_time(parse(b"<a/>")) is None
    assert messages.media_service(parse(b"<a/>")) is None
    assert messages.fault(parse(b"<a/>")) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:hunter2@192.0.2.9/a", "rtsp://192.0.2.9/a"),
        ("rtsp://192.0.2.9/user=admin_password=tlJwpbo6_channel=1", "rtsp://192.0.2.9/user=admin_password=PASSWORD_channel=1"),
        ("rtsp://192.0.2.9/live/hunter2?x=hunter2", "rtsp://192.0.2.9/live/PASSWORD?x=PASSWORD"),
        ("rtsp://192.0.2.9/hunter22", "rtsp://192.0.2.9/hunter22"),
    ],
)  # fmt: skip
def test_what_opens_a_camera_is_not_in_what_is_shown(url: str, shown: str) -> None:
    profile = Profile("t", "", Format("h264", Size(1, 1)))
    assert without_login(OnvifStream(profile, url), Login("admin", "hunter2")).url == shown
    assert "hunter2" not in repr(Login("admin", "hunter2"))
