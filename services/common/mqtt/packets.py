"""Messages as paho has them, and the packets that are read and measured in its place.

Importing this replaces paho's reader of PUBLISH packets (docs/decisions/0008).
"""

import math
from typing import Any

from paho.mqtt import _packet as paho_packets
from paho.mqtt.client import MQTTMessage
from paho.mqtt.exception import MalformedPacket

from services.common.errors import Refused
from services.common.message import Message
from services.common.mqtt.publish import PublishProperties, read_binary, read_properties


def to_properties(message: Message) -> Any:
    """Return what a message has beside topic and payload, as paho packs it."""
    expiry_s = None if message.expiry_s is None else max(1, math.ceil(message.expiry_s))
    return PublishProperties(
        message.content_type, message.attributes, message.response_topic, message.correlation, expiry_s
    )


def from_paho(raw: MQTTMessage) -> Message:
    """Return a message that came in.

    Raises:
        Refused: `bad_topic`: its topic is not UTF-8.
    """
    try:
        topic = raw.topic
    except UnicodeDecodeError as error:
        raise Refused("bad_topic", "not UTF-8") from error
    properties: Any = raw.properties
    return Message(
        topic=topic,
        payload=bytes(raw.payload),
        qos=raw.qos,
        retain=raw.retain,
        content_type=properties.content_type,
        attributes=properties.attributes,
        response_topic=properties.response_topic,
        correlation=properties.correlation,
    )


def _decode_publish(
    header: int,
    packet: bytes | bytearray,
    protocol: object,  # noqa: ARG001 - we speak MQTT 5 alone
) -> paho_packets.PublishPacket:
    """Take a PUBLISH packet apart in the place of paho's own function; see `publish` for why."""
    qos = (header >> 1) & 3
    properties: Any
    try:
        topic, at = read_binary(packet, 0)
        properties, payload_at = read_properties(packet, at + 2 if qos else at)
    except ValueError as error:
        raise MalformedPacket(str(error)) from error
    return paho_packets.PublishPacket(
        dup=bool(header & 8),
        qos=qos,
        retain=bool(header & 1),
        topic=topic,
        mid=int.from_bytes(packet[at : at + 2]) if qos else 0,
        properties=properties,
        payload=bytes(memoryview(packet)[payload_at:]),
    )


paho_packets.decode_publish = _decode_publish


def as_reason(name: str) -> str:
    """Return the name of an MQTT reason code as a metric's label."""
    return name.lower().replace(" ", "_")


def packet_bytes(message: Message) -> int:
    """Return at least how large the packet will be."""
    attributes = sum(len(name) + len(value) + 5 for name, value in message.attributes)
    return len(message.payload) + len(message.topic) + attributes + 256
