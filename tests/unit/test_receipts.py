import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.receipts import Receipt, decode_receipt, encode_stored, encode_taken

ids = st.from_regex(r"\A[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[0-9a-f]{32}\Z")


@given(st.frozensets(ids), st.dictionaries(ids, st.from_regex(r"\A[a-z0-9_]{1,40}\Z")))
def test_a_receipt_survives_the_wire(stored: frozenset[str], refused: dict[str, str]) -> None:
    assert decode_receipt(encode_stored("porch", stored, refused)) == Receipt(stored, refused)
    assert decode_receipt(encode_taken("porch", stored)) == Receipt(stored)
    assert decode_receipt(encode_taken("porch", stored, refused, most_bytes=123_456)) == Receipt(
        stored, refused, 123_456
    )


def test_receipts_have_topics_of_their_device() -> None:
    assert encode_taken("porch", []).topic == "faceferry/porch/taken"
    assert encode_stored("porch", [], {}).topic == "faceferry/porch/stored"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"ids": "x"}',
        b'{"ids": ["../x"]}',
        b'{"ids": [], "refused": []}',
        b'{"ids": [], "most_bytes": "1"}',
        b'{"ids": [], "most_bytes": 0}',
        b'{"ids": [], "refused": {"20260131T235959.000007Z-00000000000000000000000000000000": "\\ud800"}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_receipt_is_refused(payload: bytes) -> None:
    with pytest.raises(Refused, match="bad_json"):
        decode_receipt(Message(topic="t", payload=payload))


def test_an_endless_receipt_is_refused_unread() -> None:
    message = dataclasses.replace(encode_taken("porch", []), payload=b" " * 1_000_000)
    with pytest.raises(Refused, match="too_large"):
        decode_receipt(message)
