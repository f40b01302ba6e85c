"""A face in forward's custody, and the row that it is on disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import Refused
from services.common.wire.faces import decode_face
from services.common.wire.message import Message
from services.common.wire.seen import Why
from services.common.wire.topics import parse_camera_topic

LATER = ("why", Why.BETTER.value)
"""The attribute of a picture of a person who certainly has one already."""
_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class SpooledFace:
    """A face in forward's custody.

    Attributes:
        sequence: its place in the spool, which grows in the order of arrival.
        id: the face's id.
        message: as it came from detect.
    """

    sequence: int
    id: str
    message: Message

    @property
    def camera(self) -> str:
        """The name of its camera."""
        return parse_camera_topic(self.message.topic, "face").camera

    @property
    def size_bytes(self) -> int:
        """About how many bytes it takes on the way and on disk."""
        return len(self.message.payload) + _OVERHEAD_BYTES

    @property
    def is_later(self) -> bool:
        """Whether it is certainly not a person's first picture; in doubt it is one."""
        return LATER in self.message.attributes


def to_row(message: Message) -> tuple[str, str, str, bytes]:
    """Return a face's columns beside its id: topic, content type, attributes as JSON, payload."""
    return message.topic, message.content_type or "", _as_json(message.attributes), message.payload


def from_row(sequence: int, row: Sequence[object]) -> SpooledFace | None:
    """Return the face that a row holds, or None if it holds none: damage puts anything into any column.

    A face's id proves its content, its camera and its time, so nothing else is taken for a face.

    Args:
        sequence: the row's place.
        row: id, topic, content type, attributes and payload, as bytes: a damaged text may not be UTF-8.
    """
    match row:
        case [
            bytes() as face_id,
            bytes() as topic,
            bytes() as content_type,
            bytes() as attributes,
            bytes() as payload,
        ]:
            pass
        case _:
            return None
    try:
        message = Message(
            topic=topic.decode(),
            payload=payload,
            qos=1,
            content_type=content_type.decode(),
            attributes=_to_pairs(json.loads(attributes)),
        )
        face = SpooledFace(sequence, face_id.decode(), message)
        return face if decode_face(message).id == face.id else None
    except (Refused, ValueError, RecursionError):
        return None


def property_in_row(pair: tuple[str, str]) -> str:
    """Return the text that is in the attributes of each row with this property, and of no other."""
    return _as_json(pair)  # a quote within a value is escaped there


def later_in_row() -> str:
    """Return the text that is in the attributes of each row whose picture is a later one, and of no other."""
    return property_in_row(LATER)


def _as_json(attributes: Sequence[object]) -> str:
    return json.dumps(attributes, separators=(",", ":"))


def _to_pairs(found: object) -> tuple[tuple[str, str], ...]:
    """Return user properties as they were.

    Raises:
        ValueError: these are none, or have lone surrogates: JSON has those, MQTT cannot carry them.
    """
    pairs: list[tuple[str, str]] = []
    match found:
        case [*properties]:
            for each in properties:
                match each:
                    case [str() as name, str() as value]:
                        (name + value).encode()
                        pairs.append((name, value))
                    case _:
                        raise ValueError("no property")
        case _:
            raise ValueError("no list of properties")
    return tuple(pairs)
