import base64
import dataclasses
import os
import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.retention import Retention
from services.common.storage.keys import parse_key
from services.common.wire import faces
from services.common.wire.bare_topics import parse
from services.common.wire.message import Message
from services.store.admission import admit
from tests.storing import HOSTILE, PORCH, TIME, face, jpeg, message_of, png, with_attribute

MAX_BYTES = 100_000
FUZZ_RUNS = int(os.environ.get("FACEFERRY_TEST_FUZZ_RUNS", "20000"))


def refusal(message: Message) -> str:
    with pytest.raises(Refused) as caught:
        admit(message, TIME, MAX_BYTES)
    return caught.value.reason


def test_a_face_that_comes_too_late_to_be_kept_is_refused_and_no_other() -> None:
    month = Retention(30)
    message = faces.encode_face(face())
    assert admit(message, TIME + timedelta(days=30), MAX_BYTES, retention=month).face == face()
    with pytest.raises(Refused) as caught:
        admit(message, TIME + timedelta(days=30, microseconds=1), MAX_BYTES, retention=month)
    assert caught.value.reason == "expired"
    assert admit(message, TIME + timedelta(days=9_999), MAX_BYTES).face == face()


def test_a_face_whose_camera_did_not_know_the_time_has_no_known_age() -> None:
    message = with_attribute(faces.encode_face(face()), "clock", "unsynchronised")
    admitted = admit(message, TIME + timedelta(days=99), MAX_BYTES, retention=Retention(30))
    assert admitted.face.id == face().id


def test_a_face_becomes_an_object_with_its_properties() -> None:
    item = admit(faces.encode_face(face()), TIME, MAX_BYTES).item
    assert item.key == f"dt=2026-01-31/device=porch/camera=front/{face().id}.jpg"
    assert (item.body, item.content_type) == (jpeg(), "image/jpeg")
    assert item.metadata == {
        "specversion": "1.0",
        "type": "faceferry.face.v1",
        "source": "porch/front",
        "id": face().id,
        "time": "2026-01-31T23:59:59.000007Z",
        "box": "1,2,3,4",
        "framesize": "640x480",
        "score": "0.912",
    }


def test_a_late_face_lies_under_the_day_of_its_capture() -> None:
    message = faces.encode_face(face())
    assert admit(message, TIME.replace(year=2030), MAX_BYTES) == admit(message, TIME, MAX_BYTES)


def test_bare_image_is_admitted_on_a_foreign_topic_only() -> None:
    admitted = admit(Message(topic="test_topic", payload=png()), TIME, MAX_BYTES)
    assert admitted.is_bare
    assert admitted.item.key.startswith(
        "dt=2026-01-31/device=unknown/camera=unknown/20260131T235959.000007Z-"
    )
    assert admitted.item.content_type == "image/png"
    assert admitted.item.metadata["topic"] == "test_topic"
    assert refusal(Message(topic="faceferry/porch/front/face", payload=png())) == "no_properties"


def test_a_bare_image_is_of_whom_its_topic_names() -> None:
    message = Message(topic="cam/Front/faces", payload=base64.b64encode(jpeg()))
    item = admit(message, TIME, MAX_BYTES, [parse("test_topic"), parse("cam/{camera}/faces")]).item
    assert item.key.startswith("dt=2026-01-31/device=unknown/camera=front/20260131T235959.000007Z-")
    assert item.body == jpeg()
    assert item.metadata["topic"] == "cam/Front/faces"


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\r\n", jpeg(1)])
def test_a_bare_image_is_stored_without_what_follows_its_end(behind: bytes) -> None:
    plain = admit(Message(topic="test_topic", payload=jpeg()), TIME, MAX_BYTES)
    padded = admit(Message(topic="test_topic", payload=jpeg() + behind), TIME, MAX_BYTES)
    assert padded == plain


def test_a_face_with_padding_is_stored_as_its_id_proves_it() -> None:
    padded = message_of(jpeg() + b"\0" * 100)
    assert admit(padded, TIME, MAX_BYTES).item.body == padded.payload
    assert refusal(message_of(jpeg() + jpeg(1))) == "trailing_bytes"


def test_a_bare_image_that_the_broker_kept_is_not_a_new_one() -> None:
    kept = Message(topic="test_topic", payload=jpeg(), retain=True)
    assert refusal(kept) == "retained"
    message = dataclasses.replace(faces.encode_face(face()), retain=True)
    assert admit(message, TIME, MAX_BYTES).face == face()


def test_bare_message_that_is_no_image_is_refused() -> None:
    assert refusal(Message(topic="test_topic", payload=b"hello")) == "text"


def test_too_large_is_refused_whatever_it_is() -> None:
    huge = b"\xff\xd8" + bytes(MAX_BYTES)
    assert refusal(Message(topic="test_topic", payload=huge)) == "too_large"
    assert refusal(message_of(huge)) == "too_large"


def test_runs_of_spaces_do_not_reach_a_signature() -> None:
    message = with_attribute(faces.encode_face(face()), "box", "  1,  2 ")
    assert admit(message, TIME, MAX_BYTES).item.metadata["box"] == "1, 2"
    message = with_attribute(message, "box", "   ")
    assert "box" not in admit(message, TIME, MAX_BYTES).item.metadata


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_message_is_refused(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(30):
        assert refusal(HOSTILE[kind](rng))


@given(st.binary(max_size=300), st.text(max_size=40), st.lists(st.tuples(st.text(), st.text()), max_size=8))
def test_any_message_is_admitted_or_refused(
    payload: bytes, topic: str, attributes: list[tuple[str, str]]
) -> None:
    message = Message(topic=topic, payload=payload, attributes=tuple(attributes))
    assert refusal(message)
    assert refusal(dataclasses.replace(message, topic="faceferry/porch/front/face"))


def test_mutated_faces_never_leave_their_camera_s_folder() -> None:
    """Flips, cuts and doubles bytes of real images; most have the right id, so that inspection sees them."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(FUZZ_RUNS):
        message = _mutated(rng)
        try:
            admitted = admit(message, TIME, MAX_BYTES)
        except Refused as refused:
            outcomes[refused.reason] += 1
            continue
        outcomes["admitted"] += 1
        key = parse_key(admitted.item.key)
        assert key is not None, f"seed {seed}"
        assert key.source == PORCH, f"seed {seed}"
    assert outcomes.total() == FUZZ_RUNS
    assert len(outcomes) > 8, f"seed {seed}: {outcomes}"


def _mutated(rng: random.Random) -> Message:
    is_jpeg = rng.random() < 0.5
    image = bytearray(jpeg(rng.randrange(8)) if is_jpeg else png(rng.randrange(8)))
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(image))
        match rng.randrange(4):
            case 0:
                image[place] ^= 1 << rng.randrange(8)
            case 1:
                image[place] = rng.choice((0x00, 0xFF, 0xD8, 0xD9, 0xDA, 0xC0))
            case 2:
                del image[place : place + rng.randrange(1, 200)]
                image = image or bytearray(b"\xff")
            case _:
                image[place:place] = image[place : place + rng.randrange(1, 200)]
    message = message_of(bytes(image), "image/jpeg" if is_jpeg else "image/png")
    if rng.random() < 0.3:
        name, value = rng.choice(message.attributes)
        start = rng.randrange(len(value))
        message = with_attribute(
            message, name, value[:start] + chr(rng.randrange(1, 300)) + value[start + 1 :]
        )
    return message
