"""From a message on the local broker to a face that may be taken into custody."""

from datetime import datetime

from services.common import images
from services.common.errors import Refused
from services.common.faces import Face, decode_face, mint
from services.common.message import Message
from services.common.topics import BARE_IMAGES, Source

BARE_CAMERA = "test-topic"


def admit(message: Message, device: str, arrived_at: datetime) -> Face:
    """Return the face that a message carries; a bare image becomes one of camera `test-topic`.

    Args:
        message: what came on the local broker.
        device: this device, the only one whose faces are taken.
        arrived_at: the time of a bare image.

    Raises:
        Refused: it is no face, not one of this device, no image that the store takes (see `images.check`),
            or a bare image that is not new (`retained`).
    """
    if message.topic == BARE_IMAGES:
        if message.retain:
            # The broker keeps it, and hands it over at each connection: it would be a new face each time.
            raise Refused("retained", "a bare image that the broker kept")
        image, info = images.trim(message.payload)
        size = {"framesize": f"{info.width}x{info.height}"}
        return mint(Source(device, BARE_CAMERA), arrived_at, image, info.content_type, size)
    face = decode_face(message)
    if face.source.device != device:
        raise Refused("bad_topic", f"a face of {face.source}")
    # The store says the same, but only once the uplink and the spool have carried it.
    images.check(face.image, face.content_type)
    return face
