import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.mqtt.handshake import add_password, why_not_a_broker, why_unusable
from services.common.mqtt.packets import read_binary, varint


@given(client_id=st.text(max_size=200), password=st.text(max_size=20_000))
def test_a_password_is_added_to_a_packet_of_any_length(client_id: str, password: str) -> None:
    name = client_id.encode()
    body = b"\0\4MQTT\5\2\0\x0f\0" + len(name).to_bytes(2) + name
    packet = add_password(b"\x10" + varint(len(body)) + body, password)
    secret = password.encode()
    changed = body[:7] + b"\x42" + body[8:]
    length = varint(len(body) + 2 + len(secret))
    assert packet[: 1 + len(length)] == b"\x10" + length
    assert packet[1 + len(length) :].startswith(changed)
    assert read_binary(packet, 1 + len(length) + len(changed)) == (secret, len(packet))


@pytest.mark.parametrize("first", [b"\x20", b"\x20\x03\x00\x00\x00", b"\xe0\x01\x8b"])
def test_what_a_broker_can_say_first_is_welcome(first: bytes) -> None:
    assert why_not_a_broker(first) is None


@given(st.binary(min_size=1, max_size=32).filter(lambda data: data[0] not in (0x20, 0xE0)))
def test_all_else_is_no_broker(first: bytes) -> None:
    assert why_not_a_broker(first)


@given(st.binary(max_size=40))
def test_whatever_a_broker_says_of_itself_is_looked_at(connack: bytes) -> None:
    assert why_unusable(connack) is None or b"\x27" in connack


def test_only_a_packet_limit_of_nothing_is_wrong() -> None:
    reason, zero, some = b"\x1f\x00\x02hi", b"\x27" + bytes(4), b"\x27\x00\x00\x10\x00"
    user = b"\x26\x00\x01a\x00\x02\x27\x00"
    for properties, is_wrong in (
        (zero, True),
        (reason + user + zero, True),
        (user + some, False),
        (b"", False),
    ):
        assert (why_unusable(b"\x00\x00" + bytes([len(properties)]) + properties) is not None) == is_wrong
