import dataclasses
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.wire import faces, times
from services.common.wire.message import Message
from services.common.wire.topics import Source

FRONT = Source("porch", "front")
TIME = times.parse_rfc3339("2026-01-31T23:59:59.000007Z")


def face(image: bytes = b"pixels") -> faces.Face:
    return faces.mint(FRONT, TIME, image, "image/jpeg", {"box": "1,2,3,4", "score": "0.912"})


def refusal(message: Message) -> str:
    with pytest.raises(Refused) as caught:
        faces.decode_face(message)
    return caught.value.reason


def with_attribute(message: Message, name: str, value: str) -> Message:
    kept = [(key, old) for key, old in message.attributes if key != name]
    return dataclasses.replace(message, attributes=(*kept, (name, value)))


def test_id_names_time_camera_and_content() -> None:
    digest = hashlib.sha256(b"porch/front\npixels").hexdigest()
    assert face().id == f"20260131T235959.000007Z-{digest[:32]}"


def test_same_pixels_on_two_cameras_are_two_faces() -> None:
    assert faces.mint_id(Source("porch", "yard"), TIME, b"pixels") != face().id


@given(st.binary(), st.datetimes())
def test_a_face_survives_the_wire(image: bytes, naive: datetime) -> None:
    sent = faces.mint(FRONT, naive.replace(tzinfo=UTC), image, "image/png", {"sharpness": "12"})
    assert faces.decode_face(faces.encode_face(sent)) == sent


def test_face_of_another_camera_is_refused() -> None:
    message = dataclasses.replace(faces.encode_face(face()), topic="faceferry/porch/yard/face")
    assert refusal(message) == "bad_source"


def test_changed_pixels_are_refused() -> None:
    assert refusal(dataclasses.replace(faces.encode_face(face()), payload=b"other")) == "id_mismatch"


def test_stripped_properties_are_refused_by_name() -> None:
    assert refusal(dataclasses.replace(faces.encode_face(face()), attributes=())) == "no_properties"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("type", "faceferry.frame.v1", "bad_type"),
        ("specversion", "0.3", "bad_type"),
        ("time", "2026-01-31T23:59:59Z", "bad_time"),
        ("time", "2026-02-31T23:59:59.000007Z", "bad_time"),
        ("id", "../../etc/passwd", "id_mismatch"),
        ("Box", "1", "bad_property"),
        ("box", "1\r\nx-amz-acl: public", "bad_property"),
        ("box", "é", "bad_property"),
        ("box", "", "bad_property"),
    ],
)
def test_bad_attribute_is_refused(name: str, value: str, reason: str) -> None:
    assert refusal(with_attribute(faces.encode_face(face()), name, value)) == reason


def test_repeated_and_huge_properties_are_refused() -> None:
    message = faces.encode_face(face())
    twice = dataclasses.replace(message, attributes=(*message.attributes, ("box", "1")))
    assert refusal(twice) == "repeated_property"
    many = tuple((f"x{number}", "1") for number in range(100))
    assert refusal(dataclasses.replace(message, attributes=many)) == "properties_too_large"
    for number in range(5):
        message = with_attribute(message, f"x{number}", "y" * 500)
    assert refusal(message) == "properties_too_large"


@pytest.mark.parametrize(
    "topic", ["faceferry/../front/face", "faceferry/porch/front/face/x", "faceferry/Porch/front/face", "x"]
)
def test_hostile_topic_is_refused(topic: str) -> None:
    assert refusal(dataclasses.replace(faces.encode_face(face()), topic=topic)) == "bad_topic"
