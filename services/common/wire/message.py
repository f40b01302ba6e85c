"""An MQTT 5 message without any library's types, and JSON payloads."""

import json
from dataclasses import dataclass

from services.common.errors import Refused

MAX_PROPERTIES = 64
MAX_PROPERTIES_BYTES = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One MQTT 5 publication.

    Attributes:
        topic: the topic name.
        payload: the body; not copied.
        qos: 0 or 1.
        retain: whether the broker keeps it for later subscribers.
        content_type: the MQTT property of that name.
        attributes: the user properties, in order; a name may occur more than once.
        response_topic: the topic for an answer.
        correlation: the correlation data, which an answer has to repeat.
        expiry_s: whole seconds after which the broker may discard it; None: never.
    """

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    content_type: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None


def unique_attributes(message: Message) -> dict[str, str]:
    """Return the user properties by name.

    Raises:
        Refused: `no_properties` when there is none, `repeated_property`, or `properties_too_large`.
    """
    if not message.attributes:
        raise Refused("no_properties", "a hop that speaks MQTT 3.1.1 strips them")
    if len(message.attributes) > MAX_PROPERTIES:
        raise Refused("properties_too_large", f"{len(message.attributes)} properties")
    if (size := sum(len(name) + len(value) for name, value in message.attributes)) > MAX_PROPERTIES_BYTES:
        raise Refused("properties_too_large", f"{size} characters")
    attributes = dict(message.attributes)
    if len(attributes) != len(message.attributes):
        raise Refused("repeated_property")
    return attributes


def to_json(body: object) -> bytes:
    """Return a payload: compact JSON."""
    return json.dumps(body, separators=(",", ":")).encode()


def from_json(payload: bytes) -> object:
    """Parse a JSON payload of any shape.

    Raises:
        Refused: `bad_json`: it is no JSON.
    """
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_json", str(error)) from error
