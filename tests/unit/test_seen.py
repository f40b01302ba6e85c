"""What detect asks, and what forward answers."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.seen import (
    LEAST_HASTE,
    MOST_HASTE,
    SIGNATURE_BYTES,
    Seen,
    SeenAnswer,
    SeenFace,
    View,
    WantedFace,
    Why,
    decode_seen,
    decode_wanted,
    encode_seen,
    encode_wanted,
    wanted_topic,
)
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source

tenths = st.integers(-10_000, 10_000).map(lambda value: value / 10)
sizes = st.integers(1, 10_000).map(lambda value: value / 10)
shares = st.integers(0, 1_000).map(lambda value: value / 1_000)
faces = st.builds(
    SeenFace,
    box=st.tuples(tenths, tenths, sizes, sizes),
    score=shares,
    landmarks=st.one_of(st.just(()), st.tuples(*[tenths] * 10)),
    sharpness=sizes,
    signature=st.one_of(st.just(b""), st.binary(min_size=SIGNATURE_BYTES, max_size=SIGNATURE_BYTES)),
)
SEEN = Seen(
    source=Source("porch", "front"),
    sequence=7,
    time=EPOCH + timedelta(days=20_000),
    view=View(640, 480, (SeenFace((1.0, 2.0, 30.0, 40.0), 0.9, (), 80.0, bytes(SIGNATURE_BYTES)),)),
    answer_to=wanted_topic("porch", "a1"),
    correlation=b"7",
)


@given(found=st.lists(faces, max_size=5), paced=st.booleans(), after=st.none() | st.integers(0, 10**9))
def test_a_question_comes_as_it_went(found: list[SeenFace], paced: bool, after: int | None) -> None:
    seen = replace(SEEN, view=View(640, 480, tuple(found)), paced=paced, after=after)
    assert decode_seen(encode_seen(seen)) == seen


@given(
    index=st.integers(0, 999),
    shot=st.integers(1, 99),
    rated=shares,
    why=st.sampled_from(Why),
    haste=st.none() | st.sampled_from([LEAST_HASTE, 0.5, 1.0, 2.25, MOST_HASTE]),
)
def test_so_does_an_answer(*, index: int, shot: int, rated: float, why: Why, haste: float | None) -> None:
    given = SeenAnswer(
        [WantedFace(index, "20260314T120000.000000Z-0123456789abcdef", shot, rated, why)], haste
    )
    answer = encode_wanted(SEEN, given)
    assert decode_wanted(answer) == given
    assert (answer.topic, answer.correlation) == (SEEN.answer_to, SEEN.correlation)


@pytest.mark.parametrize(
    "answer_to",
    [
        "faceferry/yard/detect/a1/wanted",  # another device's
        "faceferry/porch/taken",
        "faceferry/porch/detect/a1/wanted/more",
        "faceferry/porch/detect/+/wanted",
        "",
    ],
)
def test_no_client_has_an_answer_published_elsewhere(answer_to: str) -> None:
    with pytest.raises(Refused, match="bad_response_topic"):
        decode_seen(replace(encode_seen(SEEN), response_topic=answer_to))


@pytest.mark.parametrize(
    "change",
    [
        {"framesize": [0, 480]},
        {"framesize": [640]},
        {"faces": 7},
        {"faces": [{}]},
        {"faces": [{"box": [1, 2, 3, 0], "score": 1, "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, True], "score": 1, "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, 4], "score": float("nan"), "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, float("inf")], "score": 1, "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, 1e300], "score": 1, "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, 10**400], "score": 1, "sharpness": 1, "signature": ""}]},
        {"faces": [{"box": [1, 2, 3, 4], "score": 1, "sharpness": 1, "signature": "AAAA"}]},
        {"faces": [{"box": [1, 2, 3, 4], "score": 1, "sharpness": 1, "signature": "ä"}]},
        {"faces": [{"box": [1, 2, 3, 4], "score": 1, "sharpness": 1, "signature": "", "landmarks": [1]}]},
    ],
)
def test_what_is_no_question_is_refused(change: dict[str, object]) -> None:
    body = {**json.loads(encode_seen(SEEN).payload), **change}
    with pytest.raises(Refused, match="bad_json"):
        decode_seen(replace(encode_seen(SEEN), payload=json.dumps(body).encode()))


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{",
        '{"wanted": [{}]}',
    ],
)
def test_what_is_no_answer_is_refused(body: str) -> None:
    with pytest.raises(Refused, match="bad_json"):
        decode_wanted(Message(topic=SEEN.answer_to, payload=body.encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"face": -1},
        {"visit": "a b"},
        {"shot": 0},
        {"quality": 2},
        {"quality": float("nan")},
        {"why": "worse"},
        {"why": ""},
        {"why": None},
        {"why": ["better"]},
    ],
)
def test_a_wanted_face_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    good = {"face": 0, "visit": "v", "shot": 1, "quality": 1, "why": "first"}

    def answer(body: dict[str, object]) -> Message:
        return Message(topic=SEEN.answer_to, payload=json.dumps({"wanted": [body]}).encode())

    assert decode_wanted(answer(good)) == SeenAnswer([WantedFace(0, "v", 1, 1.0, Why.FIRST)])
    with pytest.raises(Refused, match="bad_json"):
        decode_wanted(answer({**good, **change}))


@pytest.mark.parametrize(
    ("haste", "read"),
    [
        (1, 1.0),
        (0.001, LEAST_HASTE),
        (1e9, MOST_HASTE),
        (10**400, MOST_HASTE),
        (0, None),
        (-1, None),
        (True, None),
        ("1", None),
    ]
    + [(value, None) for value in (float("nan"), float("inf"), [1])],
)
def test_haste_is_bounded_and_what_is_none_is_refused(haste: object, read: float | None) -> None:
    message = Message(topic=SEEN.answer_to, payload=json.dumps({"wanted": [], "haste": haste}).encode())
    if read is not None:
        assert decode_wanted(message) == SeenAnswer([], read)
        return
    with pytest.raises(Refused, match="bad_json"):
        decode_wanted(message)
