import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.wire import times
from services.common.wire.frames import (
    MOST_NEXT_S,
    Done,
    Frame,
    decode_done,
    decode_frame,
    encode_done,
    encode_frame,
)
from services.common.wire.message import Message
from services.common.wire.topics import Source

FRONT = Source("porch", "front")
TIME = times.parse_rfc3339("2026-01-31T23:59:59.000007Z")


def refusal(message: Message) -> str:
    with pytest.raises(Refused) as caught:
        (decode_done if message.topic.endswith("/done") else decode_frame)(message)
    return caught.value.reason


@given(
    sequence=st.integers(0, 10**19), jpeg=st.binary(), is_paced=st.booleans(), is_synchronised=st.booleans()
)
def test_a_frame_survives_the_wire(
    *, sequence: int, jpeg: bytes, is_paced: bool, is_synchronised: bool
) -> None:
    frame = Frame(FRONT, sequence, TIME, jpeg, is_paced, is_synchronised)
    assert decode_frame(encode_frame(frame)) == frame


def test_a_frame_asks_for_the_answer_on_its_camera_s_topic() -> None:
    message = encode_frame(Frame(FRONT, 7, TIME, b""))
    assert message.topic == "faceferry/porch/front/frame"
    assert message.response_topic == "faceferry/porch/front/done"
    assert message.correlation == b"7"
    assert message.qos == 0


@pytest.mark.parametrize(
    "done",
    [
        Done(FRONT, 7),
        Done(FRONT, 7, faces=("a", "b")),
        Done(FRONT, 7, faces=("a",), next_s=0.125),
        Done(FRONT, 7, next_s=0.0),
        Done(FRONT, 7, dropped="stale"),
        Done(FRONT, 7, dropped="stale", next_s=1.5),
    ],
)
def test_an_answer_survives_the_wire(done: Done) -> None:
    assert decode_done(encode_done(done)) == done


@pytest.mark.parametrize("correlation", [None, b"", b"-1", b"x", b"1" * 21, "٣".encode()])
def test_a_frame_without_a_number_is_refused(correlation: bytes | None) -> None:
    message = dataclasses.replace(encode_frame(Frame(FRONT, 7, TIME, b"")), correlation=correlation)
    assert refusal(message) == "bad_correlation"


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b"{}", b'{"faces": [1]}', b'{"faces": {}}', b"\xff", b"[" * 100_000]
)
def test_an_answer_that_says_nothing_is_refused(payload: bytes) -> None:
    assert refusal(dataclasses.replace(encode_done(Done(FRONT, 7)), payload=payload)) == "bad_json"


@pytest.mark.parametrize("next_s", ["NaN", "Infinity", "-Infinity", "-0.1", "true", '"1"', "[1]", "1e999"])
def test_an_answer_that_asks_for_an_impossible_pause_is_refused(next_s: str) -> None:
    payload = f'{{"faces": [], "next_s": {next_s}}}'.encode()
    assert refusal(dataclasses.replace(encode_done(Done(FRONT, 7)), payload=payload)) == "bad_json"


@pytest.mark.parametrize("next_s", ["2.5", "100000", "1e300", "9" * 400])
def test_no_answer_holds_a_camera_back_for_long(next_s: str) -> None:
    payload = f'{{"faces": [], "next_s": {next_s}}}'.encode()
    done = decode_done(dataclasses.replace(encode_done(Done(FRONT, 7)), payload=payload))
    assert done.next_s == MOST_NEXT_S


@given(st.binary(max_size=200), st.sampled_from(["frame", "done"]))
def test_garbage_is_refused_and_never_crashes(payload: bytes, kind: str) -> None:
    assert refusal(Message(topic=f"faceferry/porch/front/{kind}", payload=payload))
