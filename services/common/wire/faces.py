"""Faces: their ids, and the messages that carry them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.errors import Refused
from services.common.images import structure
from services.common.wire import cloudevents, envelope, times
from services.common.wire.message import Message, unique_attributes
from services.common.wire.topics import Source, camera_topic, parse_camera_topic

FACE_TYPE = "faceferry.face.v1"
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", envelope.CONTENT_TYPE: ".age"}
MAX_ATTRIBUTES_BYTES = 1_800
"""Names and values together. S3 allows 2 KB of metadata; the rest is for the store's own."""

ID_LENGTH = 56

_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{32}", re.ASCII)
_CORE = ("specversion", "type", "source", "id", "time")


@dataclass(frozen=True, slots=True)
class Face:
    """One face, cut from a frame.

    Attributes:
        source: the camera that took the frame.
        time: when the frame was taken, UTC.
        id: see `mint_id`.
        image: the encoded crop, or a sealed one.
        content_type: `image/jpeg`, `image/png`, or `envelope.CONTENT_TYPE` of a sealed picture.
        extensions: what is known about it, by attribute name: `box`, `framesize`, `score`, `landmarks`,
            `sharpness`, `detector`, ...
    """

    source: Source
    time: datetime
    id: str
    image: bytes
    content_type: str
    extensions: Mapping[str, str] = field(default_factory=dict)

    @property
    def traceparent(self) -> str | None:
        """Its trace context, or None without one; see `tracing`."""
        return self.extensions.get(cloudevents.TRACEPARENT)

    def traced(self, traceparent: str | None) -> "Face":
        """Return it with this trace context, or with none."""
        if traceparent == self.traceparent:
            return self
        known = {name: each for name, each in self.extensions.items() if name != cloudevents.TRACEPARENT}
        place = {} if traceparent is None else {cloudevents.TRACEPARENT: traceparent}
        return replace(self, extensions={**known, **place})


def mint_id(source: Source, time: datetime, image: bytes) -> str:
    """Return the id of a face: the frame's time, and a digest of the camera and the image.

    It sorts by time, and is the same however often it is minted. Byte-identical crops of one frame are one
    face; of two cameras they are two.
    """
    digest = hashlib.sha256(f"{source}\n".encode() + image).hexdigest()
    return f"{times.compact(time)}-{digest[:32]}"


def mint(
    source: Source, time: datetime, image: bytes, content_type: str, extensions: Mapping[str, str]
) -> Face:
    """Return a new face with its id."""
    return Face(source, time, mint_id(source, time, image), image, content_type, extensions)


def is_id(text: object) -> bool:
    """Return whether `text` has the form of a face's id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def encode_face(face: Face, *, expiry_s: int | None = None) -> Message:
    """Return the message that carries a face; brokers discard it after `expiry_s` seconds, None: never."""
    return Message(
        topic=camera_topic(face.source, "face"),
        payload=face.image,
        qos=1,
        content_type=face.content_type,
        attributes=(
            ("specversion", "1.0"),
            ("type", FACE_TYPE),
            ("source", str(face.source)),
            ("id", face.id),
            ("time", times.rfc3339(face.time)),
            *face.extensions.items(),
        ),
        expiry_s=expiry_s,
    )


def decode_face(message: Message) -> Face:
    """Parse a face and check everything but its image; see `check_image`.

    Raises:
        Refused: the message is not a face of the camera whose topic it came on, or its id does not match its
            content; the reasons are in docs/protocol.md.
    """
    source = parse_camera_topic(message.topic, "face")
    attributes = unique_attributes(message)
    cloudevents.check_type(attributes, FACE_TYPE)
    cloudevents.check_source(attributes, source)
    cloudevents.check_extensions(attributes)
    if (size := sum(len(name) + len(value) for name, value in attributes.items())) > MAX_ATTRIBUTES_BYTES:
        raise Refused("properties_too_large", f"{size} characters")
    if message.content_type not in SUFFIXES:
        raise Refused("bad_content_type", repr((message.content_type or "")[:80]))
    time = times.parse_rfc3339(attributes.get("time", ""))
    if attributes.get("id") != mint_id(source, time, message.payload):
        raise Refused("id_mismatch", repr(attributes.get("id", "")[:80]))
    extensions = {name: value for name, value in attributes.items() if name not in _CORE}
    return Face(source, time, attributes["id"], message.payload, message.content_type, extensions)


def check_image(face: Face) -> None:
    """Check that a face's image is complete and harmless, or that a sealed one is a complete age file.

    Raises:
        Refused: see `structure.check` and `envelope.check`.
    """
    if face.content_type == envelope.CONTENT_TYPE:
        envelope.check(face.image, face.extensions)
    else:
        structure.check(face.image, face.content_type)


def claimed_id(message: Message) -> str:
    """Return the `id` attribute of a refused message, cut to an id's length; it may be any text, or empty."""
    return next((value[:ID_LENGTH] for name, value in message.attributes if name == "id"), "")
