from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from services.common.mqtt.packets import PublishProperties, encode_qos0, read_properties, to_properties
from services.common.wire.message import Message

# paho reads no control characters, though MQTT 5 allows them.
texts = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc", "Cn"]), max_size=300)
texts_for_paho = texts.filter(lambda text: "\ufeff" not in text)


def properties(text: st.SearchStrategy[str]) -> st.SearchStrategy[PublishProperties]:
    return st.builds(
        PublishProperties,
        content_type=st.none() | text,
        attributes=st.lists(st.tuples(text, text), max_size=12).map(tuple),
        response_topic=st.none() | text,
        correlation=st.none() | st.binary(max_size=300),
        expiry_s=st.none() | st.integers(1, 2**32 - 1),
    )


@given(properties(texts), st.binary(max_size=20), st.binary(max_size=20))
def test_what_is_packed_is_read_again_wherever_it_stands(
    written: PublishProperties, before: bytes, payload: bytes
) -> None:
    packet = before + written.pack() + payload
    read, end = read_properties(packet, len(before))
    assert read == written
    assert packet[end:] == payload


@given(properties(texts_for_paho))
def test_paho_reads_what_is_packed(written: PublishProperties) -> None:
    theirs = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    theirs.unpack(written.pack())  # type: ignore[no-untyped-call]
    assert getattr(theirs, "ContentType", None) == written.content_type
    assert tuple(getattr(theirs, "UserProperty", ())) == written.attributes
    assert getattr(theirs, "ResponseTopic", None) == written.response_topic
    assert getattr(theirs, "CorrelationData", None) == written.correlation
    assert getattr(theirs, "MessageExpiryInterval", None) == written.expiry_s


def test_properties_that_no_service_needs_are_skipped() -> None:
    theirs = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    theirs.PayloadFormatIndicator = 1
    theirs.TopicAlias = 300
    theirs.SubscriptionIdentifier = [1, 268_435_455]
    theirs.UserProperty = ("name", "value")
    packed = bytes(theirs.pack())  # type: ignore[no-untyped-call]
    assert read_properties(packed, 0) == (PublishProperties(attributes=(("name", "value"),)), len(packed))


def test_thousands_of_properties_are_not_looked_at() -> None:
    packed = PublishProperties(attributes=(("a", "b"),) * 20_000).pack()
    assert read_properties(packed + b"image", 0) == (PublishProperties(), len(packed))


@given(st.binary(max_size=60), st.integers(0, 70))
def test_anything_else_is_malformed_and_nothing_worse(packet: bytes, start: int) -> None:
    try:
        _, end = read_properties(packet, start)
    except ValueError:
        return
    assert start < end <= len(packet)


@given(properties(texts).filter(lambda written: written != PublishProperties()), st.data())
def test_a_packet_that_ends_early_is_malformed(written: PublishProperties, data: st.DataObject) -> None:
    packed = written.pack()
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        read_properties(packed[: data.draw(st.integers(0, len(packed) - 1))], 0)


@pytest.mark.parametrize(
    "once",
    [
        PublishProperties(content_type="1"),
        PublishProperties(response_topic="1"),
        PublishProperties(correlation=b"1"),
        PublishProperties(expiry_s=1),
    ],
)
def test_a_property_that_stands_there_twice_is_malformed(once: PublishProperties) -> None:
    body = once.pack()[1:]
    with pytest.raises(ValueError, match="twice"):
        read_properties(bytes([2 * len(body)]) + body + body, 0)


@given(properties(texts), st.text("/abc", max_size=20), st.binary(max_size=300), st.booleans())
def test_a_packet_is_the_one_that_paho_would_send(
    known: PublishProperties, topic: str, payload: bytes, is_retained: bool
) -> None:
    message = Message(
        topic=topic,
        payload=payload,
        retain=is_retained,
        content_type=known.content_type,
        attributes=known.attributes,
        response_topic=known.response_topic,
        correlation=known.correlation,
        expiry_s=known.expiry_s,
    )
    queued: list[bytes] = []
    paho: Any = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    paho._sock = object()  # paho only looks whether there is one
    paho._packet_queue = lambda _command, packet, *_rest: queued.append(bytes(packet))
    paho._send_publish(1, topic.encode(), payload, 0, is_retained, properties=to_properties(message))
    paho._sock = None
    assert queued == [encode_qos0(message)]


@pytest.mark.parametrize("topic", ["a/+/b", "a/#"])
def test_nothing_is_published_on_a_filter(topic: str) -> None:
    with pytest.raises(ValueError, match="wildcards"):
        encode_qos0(Message(topic=topic))
