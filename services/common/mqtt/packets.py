"""Messages as they stand in packets, taken apart and measured in paho's place (docs/decisions/0008)."""

import math
from dataclasses import dataclass
from typing import Any

from services.common.message import Message
from services.common.mqtt.publish import Buffer, PublishProperties, read_properties, varint

PUBLISH = 0x30


@dataclass(slots=True)
class Publication:
    """A PUBLISH packet of which no more was looked at than whose it is (MQTT 5.0, section 3.3).

    Attributes:
        topic: the topic name; nothing if it is not UTF-8, which brokers may let pass.
        header: the packet's first byte.
        packet_id: what it is acknowledged by; 0 for QoS 0.
        packet: what stands behind its length.
        at: where in it the properties begin.
    """

    topic: str | None
    header: int
    packet_id: int
    packet: Buffer
    at: int

    @property
    def qos(self) -> int:
        """At what quality of service it was delivered."""
        return (self.header >> 1) & 3

    def message(self) -> Message:
        """Return the message that it carries.

        Raises:
            ValueError: the packet is malformed.
        """
        assert self.topic is not None
        properties, payload_at = read_properties(self.packet, self.at)
        return Message(
            topic=self.topic,
            payload=bytes(memoryview(self.packet)[payload_at:]),
            qos=self.qos,
            retain=bool(self.header & 1),
            content_type=properties.content_type,
            attributes=properties.attributes,
            response_topic=properties.response_topic,
            correlation=properties.correlation,
        )


def to_properties(message: Message) -> Any:
    """Return what a message has beside topic and payload, as paho packs it."""
    expiry_s = None if message.expiry_s is None else max(1, math.ceil(message.expiry_s))
    return PublishProperties(
        message.content_type, message.attributes, message.response_topic, message.correlation, expiry_s
    )


def unacknowledged(message: Message) -> bytes:
    """Return a whole PUBLISH packet of QoS 0 (MQTT 5.0, section 3.3); the payload is copied once.

    Raises:
        ValueError: the topic is none that can be published on.
        OverflowError: topic or properties are longer than the protocol allows.
    """
    if "+" in message.topic or "#" in message.topic:
        raise ValueError(f"wildcards in the topic {message.topic!r}")
    topic, properties = message.topic.encode(), to_properties(message).pack()
    length = varint(2 + len(topic) + len(properties) + len(message.payload))
    header = bytes([PUBLISH | message.retain])
    return b"".join((header, length, len(topic).to_bytes(2), topic, properties, message.payload))


def as_reason(name: str) -> str:
    """Return the name of an MQTT reason code as a metric's label."""
    return name.lower().replace(" ", "_")


def packet_bytes(message: Message) -> int:
    """Return at least how large the packet will be."""
    attributes = sum(len(name) + len(value) + 5 for name, value in message.attributes)
    return len(message.payload) + len(message.topic) + attributes + 256
