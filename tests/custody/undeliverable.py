"""Faces that forward cannot bring to the cloud, of each sort, as rows of its spool; and a broker for them."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from services.common.wire.faces import Face, mint
from services.common.wire.topics import Source
from tests.custody import damage
from tests.custody.damage import Row, as_row, spoil
from tests.custody.driver import WRONG_DEVICE
from tests.custody.faces import DEVICE, known_face, renamed
from tests.custody.rig import access_rules

MAX_PACKET_BYTES = 30_000
"""Of the broker: the good faces are below it."""
LARGE_FACE_BYTES = 34_000
REFUSED_CAMERA = "refused"
"""The broker lets nobody write faces of this camera."""

Make = Callable[[Face, random.Random], Row]


def _of_another_device(face: Face, _rng: random.Random) -> Row:
    return as_row(renamed(face, WRONG_DEVICE))


def _refused_by_the_broker(face: Face, _rng: random.Random) -> Row:
    source = Source(DEVICE, REFUSED_CAMERA)
    return as_row(mint(source, face.time, face.image, face.content_type, face.extensions))


def _too_large(face: Face, _rng: random.Random) -> Row:
    return as_row(known_face(f"large {face.id}", 0, LARGE_FACE_BYTES))


def _damaged_row(face: Face, rng: random.Random) -> Row:
    kinds = ("one byte of the JSON", "no UTF-8 in the attributes", "JSON of another shape")
    return spoil(face, rng.choice(kinds), rng)


def _damaged_id_or_topic(face: Face, rng: random.Random) -> Row:
    if rng.random() < 0.5:
        return spoil(face, "no topic", rng)
    face_id, *rest = as_row(face)
    assert isinstance(face_id, str)
    at = rng.randrange(len(face_id) - 32, len(face_id))
    return (f"{face_id[:at]}{'0' if face_id[at] != '0' else '1'}{face_id[at + 1 :]}", *rest)


SORTS: dict[str, tuple[Make, str]] = {
    "another device's": (_of_another_device, "other_device"),
    "refused by the broker": (_refused_by_the_broker, "not_authorized"),
    "too large for the broker": (_too_large, "packet_too_large"),
    "damaged rows": (_damaged_row, "damaged"),
    "damaged ids and topics": (_damaged_id_or_topic, "damaged"),
}
"""How a face becomes one that cannot be delivered, and the reason for which it must be set aside."""


def undeliverable(sort: str, count: int, size_bytes: int) -> list[Row]:
    """Return rows of one sort, each of a face of its own."""
    make, _ = SORTS[sort]
    rng = random.Random(sort)
    return [make(known_face(sort, number, size_bytes), rng) for number in range(count)]


def broker_rules(folder: Path) -> str:
    """Return what makes a broker refuse the faces that it is meant to refuse."""
    denied = f"user {DEVICE}\ntopic deny faceferry/{DEVICE}/{REFUSED_CAMERA}/#\n"
    return access_rules(folder, denied) + f"max_packet_size {MAX_PACKET_BYTES}\n"


def fill(path: Path, good: Iterable[Face], bad: Iterable[Row], rng: random.Random) -> None:
    """Put faces into a spool that nobody has open, the good ones in their order, the bad among them."""
    rows = [(rng.random(), row) for row in bad]
    whole = [as_row(face) for face in good]
    places = sorted(rng.random() for _ in whole)
    rows += zip(places, whole, strict=True)
    rows.sort(key=lambda each: each[0])
    damage.add(path, (row for _, row in rows))
