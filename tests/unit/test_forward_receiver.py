import dataclasses

import pytest

from services.common.errors import Refused
from services.common.wire import faces
from services.common.wire.bare_topics import parse
from services.common.wire.message import Message
from services.common.wire.topics import Source
from services.forward.receiver import admit
from services.store.admission import admit as store_admit
from tests.bombs import progressive, real_progressive
from tests.storing import PORCH, TIME, face, jpeg, message_of, png


def bare(image: bytes, *, retain: bool = False) -> Message:
    return Message(topic="test_topic", payload=image, retain=retain)


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\xff\xff", b"\r\n", jpeg(1), b"--frame"])
def test_a_bare_image_is_taken_without_what_follows_its_end(behind: bytes) -> None:
    taken = admit(bare(jpeg() + behind), PORCH.device, TIME)
    assert taken == admit(bare(jpeg()), PORCH.device, TIME)
    assert taken.image == jpeg()
    assert taken.id == faces.mint_id(taken.source, TIME, jpeg())


@pytest.mark.parametrize(
    ("pattern", "topic", "camera"),
    [
        ("test_topic", "test_topic", "test-topic"),
        ("edge/face", "edge/face", "edge-face"),
        ("faces=front", "faces", "front"),
        ("{device}/{camera}/snapshot", "other/Front Door/snapshot", "front-door"),
    ],
)
def test_a_bare_image_is_of_this_device_and_of_the_camera_that_its_topic_names(
    pattern: str, topic: str, camera: str
) -> None:
    message = Message(topic=topic, payload=jpeg())
    taken = admit(message, PORCH.device, TIME, [parse(pattern)])
    assert taken.source == Source(PORCH.device, camera)
    assert taken.extensions["topic"] == topic
    assert faces.decode_face(faces.encode_face(taken)) == taken


def test_a_bare_image_that_the_broker_kept_is_not_a_new_one() -> None:
    with pytest.raises(Refused) as caught:
        admit(bare(jpeg(), retain=True), PORCH.device, TIME)
    assert caught.value.reason == "retained"


def test_a_face_that_the_broker_kept_is_the_face_that_it_was() -> None:
    message = dataclasses.replace(faces.encode_face(face()), retain=True)
    assert admit(message, PORCH.device, TIME) == face()


@pytest.mark.parametrize(
    ("image", "content_type", "reason"),
    [
        (jpeg()[:-2], "image/jpeg", "truncated_image"),
        (png(), "image/jpeg", "bad_content_type"),
        (progressive(64, 48, 101), "image/jpeg", "too_many_scans"),
        (progressive(8000, 8000, 2), "image/jpeg", "too_much_to_decode"),
    ],
)
def test_what_the_store_would_refuse_is_refused_before_it_is_carried(
    image: bytes, content_type: str, reason: str
) -> None:
    message = message_of(image, content_type)
    for admitted in (
        lambda: admit(message, PORCH.device, TIME),
        lambda: store_admit(message, TIME, len(image)),
    ):
        with pytest.raises(Refused) as caught:
            admitted()
        assert caught.value.reason == reason


def test_a_bare_image_that_is_a_bomb_is_refused_and_a_telephones_is_not() -> None:
    for bomb in (progressive(64, 48, 101), progressive(8000, 8000, 2)):
        with pytest.raises(Refused, match="too_m"):
            admit(bare(bomb), PORCH.device, TIME)
    photograph = real_progressive(4000, 3000)
    assert admit(bare(photograph), PORCH.device, TIME).image == photograph
