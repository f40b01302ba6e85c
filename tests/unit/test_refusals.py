"""Whoever sent what is refused hears why, be its names proper or not."""

import dataclasses
import json

import pytest

from services.common.errors import Refused
from services.common.wire import faces
from services.common.wire.frames import Done, decode_done
from services.common.wire.message import Message
from services.common.wire.receipts import Receipt, decode_receipt, encode_stored, group_outcomes
from services.common.wire.refusals import refuse_frame, refuse_seen
from services.common.wire.seen import decode_wanted
from services.common.wire.topics import Source, levels_of
from tests.storing import face

ID = face().id


def seen(topic: str, answer_to: str | None) -> Message:
    return Message(topic=topic, response_topic=answer_to, correlation=b"12")


@pytest.mark.parametrize(
    ("topic", "levels"),
    [
        ("faceferry/porch/front/face", ("porch", "front")),
        ("faceferry/Jetson-NX/Front Door/face", ("Jetson-NX", "Front Door")),
        ("faceferry///face", ("", "")),
        ("faceferry/porch/stored", None),
        ("faceferry/porch/front/done", None),
        ("faceferry/porch/a/front/face", None),
        ("other/porch/front/face", None),
    ],
)
def test_beside_a_camera_s_topic_there_is_somebody_whatever_its_names(
    topic: str, levels: tuple[str, str] | None
) -> None:
    assert levels_of(topic, "face") == levels


def test_what_a_message_says_is_its_id_comes_back_as_far_as_an_id_goes() -> None:
    def claimed(*attributes: tuple[str, str]) -> str:
        return faces.claimed_id(Message(topic="t", attributes=attributes))

    assert len(ID) == faces.ID_LENGTH
    assert claimed(("id", ID), ("id", "another")) == ID
    assert claimed(("id", "../\N{SNOWMAN}" * 100)) == ("../\N{SNOWMAN}" * 100)[: faces.ID_LENGTH]
    assert claimed(("ID", ID)) == claimed() == ""


def test_what_has_no_id_stands_beside_what_has_one_and_each_reason_is_said() -> None:
    answers = [(ID, None), ("x", "bad_time"), ("", "no_properties"), ("", "bad_type"), ("x", "bad_time")]
    ids, refused, unnamed = group_outcomes(answers)
    message = encode_stored("porch", ids, refused, unnamed)
    assert decode_receipt(message) == Receipt(frozenset({ID}))
    assert json.loads(message.payload)["unnamed"] == [
        {"id": "x", "reason": "bad_time"},
        {"id": "", "reason": "no_properties"},
        {"id": "", "reason": "bad_type"},
    ]
    assert "unnamed" not in json.loads(encode_stored("porch", ids, {}).payload)


def test_a_frame_that_is_none_is_answered_where_its_camera_listens() -> None:
    message = Message(topic="faceferry/porch/front/frame", correlation=b"7", response_topic="somewhere/else")
    answer = refuse_frame(message, "bad_time")
    assert answer is not None
    assert answer.topic == "faceferry/porch/front/done"
    assert decode_done(answer) == Done(Source("porch", "front"), 7, dropped="bad_time")
    odd = refuse_frame(
        dataclasses.replace(message, topic="faceferry/P/F/frame", correlation=None), "bad_topic"
    )
    assert odd is not None
    assert (odd.topic, odd.correlation) == ("faceferry/P/F/done", None)
    assert refuse_frame(dataclasses.replace(message, topic="test_topic"), "bad_topic") is None


def test_a_question_that_is_none_is_answered_to_a_detect_of_the_same_device_alone() -> None:
    answer_to = "faceferry/porch/detect/a1/wanted"
    answer = refuse_seen(seen("faceferry/porch/front/seen", answer_to), "bad_json")
    assert answer is not None
    assert (answer.topic, answer.correlation) == (answer_to, b"12")
    with pytest.raises(Refused, match="bad_json: forward has refused"):
        decode_wanted(answer)
    for topic, elsewhere in (
        ("faceferry/porch/front/seen", "faceferry/garden/detect/a1/wanted"),
        ("faceferry/porch/front/seen", "faceferry/porch/front/face"),
        ("faceferry/porch/front/seen", "faceferry/porch/detect/+/wanted"),
        ("faceferry/porch/front/seen", None),
        ("faceferry/porch/front/face", answer_to),
    ):
        assert refuse_seen(seen(topic, elsewhere), "bad_json") is None
