from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTErrorCode

from services.common.mqtt.packet_reader import PacketReader
from services.common.mqtt.packets import Publication
from services.common.wire.message import Message
from tests.flood import packet

PINGRESP = b"\xd0\x00"


class Paho:
    """What a reader needs of paho: bytes as they come, and a place for packets."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.handled: list[tuple[int, bytes]] = []
        self.sent = b""
        self._in_packet: dict[str, Any] = {}

    def _sock_recv(self, _size: int) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise BlockingIOError
        return chunk

    def _packet_handle(self) -> MQTTErrorCode:
        self.handled.append((self._in_packet["command"], bytes(self._in_packet["packet"])))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_queue(self, _command: int, packets: bytes, _mid: int, _qos: int) -> None:
        self.sent += packets

    def socket(self) -> object:
        return self


def read(*chunks: bytes) -> tuple[MQTTErrorCode, list[Publication], Paho]:
    """Feed a reader until there is nothing more, or it objects."""
    paho = Paho(iter(chunks))
    reader = PacketReader(paho)
    found: list[Publication] = []
    reader.on_publication = found.append
    for _ in range(len(chunks) + 1):
        code = reader.read()
        if code != MQTTErrorCode.MQTT_ERR_AGAIN:
            break
    return code, found, paho


messages = st.builds(
    Message,
    topic=st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=20),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 1),
    attributes=st.lists(st.tuples(st.just("id"), st.text(max_size=9)), max_size=2).map(tuple),
)


@given(st.lists(messages, min_size=1, max_size=8), st.data())
def test_packets_are_the_same_wherever_the_bytes_are_cut(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(packet(message, number + 1) + PINGRESP for number, message in enumerate(sent))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=20, unique=True)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    code, found, paho = read(*chunks)
    assert code == MQTTErrorCode.MQTT_ERR_AGAIN
    assert [each.message() for each in found] == sent
    assert [each.packet_id for each in found] == [n + 1 if each.qos else 0 for n, each in enumerate(sent)]
    assert paho.handled == [(0xD0, b"")] * len(sent)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_whatever_comes_nothing_worse_happens_than_the_end_of_the_connection(chunks: list[bytes]) -> None:
    code, _, _ = read(*chunks)
    assert code in (
        MQTTErrorCode.MQTT_ERR_AGAIN,
        MQTTErrorCode.MQTT_ERR_PROTOCOL,
        MQTTErrorCode.MQTT_ERR_CONN_LOST,
    )


@pytest.mark.parametrize(
    "broken",
    [
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x02\x00\x09",
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x32\x03\x00\x01a",
    ],
    ids=["a length without end", "a topic beyond the packet", "QoS 2", "no identifier"],
)
def test_a_publication_that_is_none_ends_the_connection(broken: bytes) -> None:
    assert read(broken)[0] == MQTTErrorCode.MQTT_ERR_PROTOCOL


def test_a_topic_that_is_no_text_is_one_messages_trouble() -> None:
    code, (found,), _ = read(b"\x32\x08\x00\x03a\xff\xfe\x00\x07\x00")
    assert code == MQTTErrorCode.MQTT_ERR_AGAIN
    assert (found.topic, found.packet_id) == (None, 7)
