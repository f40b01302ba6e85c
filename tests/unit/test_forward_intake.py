import dataclasses

import pytest

from services.common import faces
from services.common.errors import Refused
from services.common.message import Message
from services.forward.intake import admit
from tests.storing import PORCH, TIME, face, jpeg


def bare(image: bytes, *, retain: bool = False) -> Message:
    return Message(topic="test_topic", payload=image, retain=retain)


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\xff\xff", b"\r\n", jpeg(1), b"--frame"])
def test_a_bare_image_is_taken_without_what_follows_its_end(behind: bytes) -> None:
    taken = admit(bare(jpeg() + behind), PORCH.device, TIME)
    assert taken == admit(bare(jpeg()), PORCH.device, TIME)
    assert taken.image == jpeg()
    assert taken.id == faces.mint_id(taken.source, TIME, jpeg())


def test_a_bare_image_that_the_broker_kept_is_not_a_new_one() -> None:
    with pytest.raises(Refused) as caught:
        admit(bare(jpeg(), retain=True), PORCH.device, TIME)
    assert caught.value.reason == "retained"


def test_a_face_that_the_broker_kept_is_the_face_that_it_was() -> None:
    message = dataclasses.replace(faces.encode_face(face()), retain=True)
    assert admit(message, PORCH.device, TIME) == face()
