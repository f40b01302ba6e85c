from base64 import b64encode

import pytest

from services.capture.cameras import parse_camera, parse_cameras
from services.capture.source.redaction import redact, shown
from services.capture.stream.picture import JpegPicture
from services.capture.topic import TopicAddress, parse_topic, to_picture
from services.common.errors import Refused, SetupError
from services.common.wire.message import Message
from tests.storing import jpeg, png

TINY_JPEG, TINY_PNG = jpeg(), png()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mqtt://host/cam", TopicAddress("mqtt://host", None, "cam")),
        (
            "mqtts://frigate@host:8884/frigate/front/person/snapshot",
            TopicAddress("mqtts://frigate@host:8884", None, "frigate/front/person/snapshot"),
        ),
        ("mqtt://a%40b:p%2Fw@[::1]/x", TopicAddress("mqtt://a%40b@[::1]", "p/w", "x")),
        ("mqtt://host/f/front/+/snapshot", TopicAddress("mqtt://host", None, "f/front/+/snapshot")),
        ("mqtt://host/f/#", TopicAddress("mqtt://host", None, "f/#")),
        ("mqtt://host//a%20topic%3F/", TopicAddress("mqtt://host", None, "/a topic?/")),
        ("mqtt:///esp32/porch", TopicAddress("", None, "esp32/porch")),
    ],
)
def test_a_topic_is_read_as_it_stands_in_an_address(url: str, place: TopicAddress) -> None:
    assert parse_topic("a", url) == place


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://host",
        "mqtt://host/",
        "mqtt://host/a%00",
        "mqtt://host/a#",
        "mqtt://host/#/a",
        "mqtt://host/a+/b",
        "mqtt://host/" + "a" * 65_536,
        "mqtt://us:secret/word@host/a",
        "mqtt://us:secret@host:99999/a",
        "mqtt://us:secret@/a",
        "mqtts:///a",
        "mqtt:///faceferry/porch/front/frame",
        "mqtt:///+/a",
        "mqtt:///#",
    ],
)
def test_what_is_no_topic_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SetupError) as problem:
        parse_camera(f"front={url}")
    assert "'front'" in str(problem.value)
    assert "secret" not in str(problem.value)


def test_topics_stand_among_other_cameras() -> None:
    text = "a=mqtt://u:p@host/x,y?quiet_s=0&fps=2,b=test://,c=mqtts://host/z?tls_sha256=" + "0" * 64
    cameras = parse_cameras(text)
    assert [camera.scheme for camera in cameras] == ["mqtt", "test", "mqtts"]
    assert parse_topic("a", cameras[0].url).topic == "x,y"
    assert (cameras[0].options.quiet_s, cameras[0].options.fps) == (0, 2)
    with pytest.raises(SetupError, match="takes no rotate"):
        parse_camera("a=mqtt://host/x?rotate=90")
    with pytest.raises(SetupError, match="takes no tls_sha256"):
        parse_camera("a=mqtt://host/x?tls_sha256=" + "0" * 64)


def test_nothing_of_an_address_is_said_but_the_host() -> None:
    url = "mqtt://viewer:hunter2-secret@host:1883/a/private/topic"
    assert shown(url) == "mqtt://***@host:1883/***"
    assert "hunter2" not in redact(f"cannot open {url}: hunter2-secret is wrong", url)
    assert "hunter2" not in repr(parse_topic("a", url))


@pytest.mark.parametrize(
    "payload",
    [TINY_JPEG, TINY_JPEG + b"\r\n", TINY_JPEG + b"more", b64encode(TINY_JPEG),
     b"data:image/jpeg;base64," + b64encode(TINY_JPEG)],
)  # fmt: skip
def test_a_jpeg_is_a_picture_and_so_is_its_base64(payload: bytes) -> None:
    assert to_picture(Message(topic="a", payload=payload)) == JpegPicture(TINY_JPEG)


def test_a_message_may_say_when_its_picture_was_taken() -> None:
    told = (("time", "1970-01-01T00:00:02.500000Z"),)
    assert to_picture(Message(topic="a", payload=TINY_JPEG, attributes=told)).taken_unix_s == 2.5
    for nonsense in ("yesterday", "", "1970-01-01T00:00:02Z"):
        message = Message(topic="a", payload=TINY_JPEG, attributes=(("time", nonsense),))
        assert to_picture(message).taken_unix_s is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(topic="a", payload=TINY_JPEG, retain=True), "retained"),
        (Message(topic="a", payload=TINY_PNG), "png"),
        (Message(topic="a", payload=b64encode(TINY_PNG)), "png"),
        (Message(topic="a", payload=b""), "empty"),
        (Message(topic="a", payload=b'{"a": 1}'), "json"),
        (Message(topic="a", payload=TINY_JPEG[:-20]), "truncated_image"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(message: Message, reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        to_picture(message)
    assert refusal.value.reason == reason
