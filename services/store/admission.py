"""Which messages are stored, and as which objects. Pure: nothing here depends on the state of the bucket."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.common.errors import Refused
from services.common.retention import EXPIRED, KEEP_FOREVER, Retention, kept_since
from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoredObject
from services.common.wire import bare_images, times
from services.common.wire.bare_topics import HOMEWORK, Pattern, find_source
from services.common.wire.cloudevents import is_time_known
from services.common.wire.faces import FACE_TYPE, Face, check_image, decode_face, mint
from services.common.wire.message import Message
from services.common.wire.topics import Source, is_own

UNKNOWN = Source("unknown", "unknown")
"""Device and camera of an image that came without any properties, where its topic does not say."""

BARE = ""
"""In place of the device, for images that came on a foreign topic."""

# A camera's clock may be off by decades (a Pi without a battery, a file from 1904, QuickTime's epoch); what
# lies outside is not a time at all. The store's own clock is not asked: a refusal is for ever.
_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A face to store.

    Attributes:
        face: the face.
        item: the object that it becomes.
        is_bare: whether it came without properties; its sender expects no receipt then.
        traceparent: its place in a trace; None if it has none.
    """

    face: Face
    item: StoredObject
    is_bare: bool
    traceparent: str | None = None


def admit(
    message: Message,
    now: datetime,
    max_bytes: int,
    bare_topics: Sequence[Pattern] = HOMEWORK,
    *,
    retention: Retention = KEEP_FOREVER,
) -> Admitted:
    """Return the face that a message holds, and the object that it becomes.

    Args:
        message: as it came in.
        now: the time of arrival, UTC; a bare image's id is made from it.
        max_bytes: the largest image that is accepted.
        bare_topics: give device and camera of images without properties.
        retention: for how long faces are kept; older ones are refused.

    Raises:
        Refused: the message can never be stored. See `decode_face`, `check_image` and `bare_images.read` for
            reasons; besides `too_large`, `bad_content_type`, `bad_time`, `expired`, and `retained`: a bare
            image that the broker kept is no new one. (A face with an id is the same however often it comes.)
    """
    if len(message.payload) > max_bytes:
        raise Refused("too_large", f"{len(message.payload)} bytes, {max_bytes} allowed")
    if is_own(message.topic):
        face = decode_face(message)
        traceparent = face.traceparent
        face = face.traced(None)  # what is stored is the same whether it was traced or not
        check_image(face)
    else:
        if message.retain:
            raise Refused("retained", "kept by the broker, and handed over at each connection")
        image, info = bare_images.read(message.payload)
        traceparent = None
        source = find_source(bare_topics, message.topic, UNKNOWN)
        face = mint(source, now, image, info.content_type, bare_images.describe(message.topic, info))
    if not _FIRST <= face.time < _LAST:
        raise Refused("bad_time", times.rfc3339(face.time))
    if retention.is_over(kept_since(face.time, now, is_time_known=is_time_known(face.extensions)), now):
        raise Refused(EXPIRED, f"taken at {times.rfc3339(face.time)}, and kept for {retention}")
    return Admitted(face, to_object(face), is_bare=not is_own(message.topic), traceparent=traceparent)


def device_of(topic: str) -> str:
    """Return the device that sent a message, by its topic, on which the broker lets no other publish.

    All bare images count as one device's, with a name that no device can have.
    """
    return topic.split("/", 2)[1] if is_own(topic) else BARE


def to_object(face: Face) -> StoredObject:
    """Return a face as an object: its properties become metadata.

    Runs of spaces become one space: HTTP and the signatures of S3 do not carry them faithfully.
    """
    attributes = {
        "specversion": "1.0",
        "type": FACE_TYPE,
        "source": str(face.source),
        "id": face.id,
        "time": times.rfc3339(face.time),
        **face.extensions,
    }
    tidy = {name: " ".join(value.split()) for name, value in attributes.items()}
    return StoredObject(
        key=str(FaceKey(face.source, face.id, face.content_type)),
        body=face.image,
        content_type=face.content_type,
        metadata={name: value for name, value in tidy.items() if value},
    )
