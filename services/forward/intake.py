"""From a message on the local broker to a face that may be taken into custody."""

from collections.abc import Sequence
from datetime import datetime

from services.common.errors import Refused
from services.common.wire import bare_images
from services.common.wire.bare_topics import HOMEWORK, Pattern, camera_of, find_source
from services.common.wire.faces import Face, check_image, decode_face, mint
from services.common.wire.message import Message
from services.common.wire.topics import Source, is_own


def admit(
    message: Message, device: str, arrived_at: datetime, bare_topics: Sequence[Pattern] = HOMEWORK
) -> Face:
    """Return the face that a message carries; a bare image becomes one of the camera that its topic names.

    Args:
        message: what came on the local broker.
        device: this device, the only one whose faces are taken.
        arrived_at: the time of a bare image.
        bare_topics: where bare images come from.

    Raises:
        Refused: it is no face, not one of this device, no image that the store takes (see `check_image`
            and `bare_images.read`), or a bare image that is not new (`retained`).
    """
    if not is_own(message.topic):
        return _admit_bare(message, device, arrived_at, bare_topics)
    face = decode_face(message)
    if face.source.device != device:
        raise Refused("bad_topic", f"a face of {face.source}")
    # The store says the same, but only once the uplink and the spool have carried it.
    check_image(face)
    return face


def _admit_bare(message: Message, device: str, arrived_at: datetime, bare_topics: Sequence[Pattern]) -> Face:
    if message.retain:
        # The broker keeps it, and hands it over at each connection: it would be a new face each time.
        raise Refused("retained", "a bare image that the broker kept")
    image, info = bare_images.read(message.payload)
    # Whatever device the topic names: all that comes at the edge is this one's, in the cloud's eyes.
    camera = find_source(bare_topics, message.topic, Source(device, "")).camera or camera_of(message.topic)
    extensions = bare_images.describe(message.topic, info)
    return mint(Source(device, camera), arrived_at, image, info.content_type, extensions)
