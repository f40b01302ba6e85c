"""Advice for each reason of a refusal, and for malformed attributes; docs/protocol.md says more."""

from collections.abc import Iterable

from services.common.errors import Refused
from services.common.storage.sidecar import numbers
from services.common.wire.faces import Face

_RIGHT = {
    "no_properties": "the attributes are MQTT 5 user properties; is it MQTT 5 that is spoken?",
    "repeated_property": "each attribute stands once",
    "properties_too_large": "at most 64 attributes, and of a face's at most 1,800 characters",
    "bad_type": "specversion is 1.0, and type faceferry.face.v1 or faceferry.frame.v1",
    "bad_source": "source is device and camera as in the topic, with a / between",
    "bad_topic": "faceferry/{device}/{camera}/face; names are a-z, 0-9 and -, at most 63 and no - first",
    "bad_time": "UTC with six digits of a second and Z: 2026-03-14T09:30:00.000000Z",
    "bad_property": "names are 1 to 20 of a-z and 0-9, values 1 to 512 of printable ASCII",
    "bad_content_type": "image/jpeg or image/png, exactly, as the payload is",
    "id_mismatch": "id is the time as 20260314T093000.000000Z, a - and the first 32 hex digits of "
    "SHA-256 over device/camera, a line feed and the payload",
    "bad_correlation": "correlation data is the frame's number in digits",
    "not_an_image": "the payload is the bytes of a JPEG or PNG",
    "truncated_image": "the payload is the whole image, up to its end marker",
    "trailing_bytes": "nothing follows the image's end",
}


def advice(refusal: Refused) -> str:
    """Return what is wrong with a message, and what would be right."""
    right = _RIGHT.get(refusal.reason)
    return f"{refusal}{f'; right: {right}' if right else ''}"


def malformed_numbers(face: Face, names: Iterable[str]) -> list[str]:
    """Return a note for each attribute of a face that should be numbers and is not."""
    known = numbers(face.extensions)
    return [
        f"{name} {face.extensions[name][:40]!r} is not of the form that queries read"
        for name in names
        if name in face.extensions and name not in known
    ]
