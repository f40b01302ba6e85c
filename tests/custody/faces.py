"""Known faces, each distinct: what goes in can be told from its number alone."""

import itertools
import random

from services.common.sealing.age import Label, seal
from services.common.sealing.keys import read_recipient
from services.common.wire.faces import Face, mint
from services.common.wire.seen import SeenFace, View
from services.common.wire.times import from_unix_s
from services.common.wire.topics import Source
from tests.storing import jpeg

DEVICE = "porch"
CAMERAS = tuple(Source(DEVICE, camera) for camera in ("front", "back", "yard"))
_FIRST_S = 1_750_000_000
_FRAME_S = 1 / 30
_SIZES_BYTES = (500, 2_000, 6_000, 20_000)
LARGE_BYTES = (40_000, 70_000, 100_000)
"""Some faces are larger than a broker may like, see `faults`."""
LARGE_EVERY = 40
REASONS = ("first", "better", "changed", "better")
"""Why a visit's pictures were wanted, one after the other."""
_SEGMENT_BYTES = 65_533
"""The most that a JPEG's segment holds: its length, 16 bits, counts itself."""


def known_face(seed: int | str, number: int, size_bytes: int | None = None) -> Face:
    """Return face `number` of a run: a real JPEG, carrying random bytes in comment segments."""
    rng = random.Random(f"{seed}/{number}")
    size_bytes = size_bytes or rng.choice(LARGE_BYTES if number % LARGE_EVERY == 7 else _SIZES_BYTES)
    known = {
        "box": f"{number % 640},{number % 480},32,32",
        "framesize": "1920x1080",
        "score": f"{rng.uniform(0.7, 1):.3f}",
        "landmarks": " ".join(f"{rng.uniform(0, 1000):.1f}" for _ in range(10)),
        "detector": "yunet",
        "visit": f"v-{number // len(REASONS)}",
        "shot": str(number % len(REASONS) + 1),
        "why": REASONS[number % len(REASONS)],
    }
    time = from_unix_s(_FIRST_S + number // 2 * _FRAME_S)
    return mint(rng.choice(CAMERAS), time, with_comment(rng.randbytes(size_bytes)), "image/jpeg", known)


def sealed_face(recipient: str, seed: int | str, number: int) -> Face:
    """Return a face as detect seals it for a key; nobody here has the private one."""
    face = known_face(seed, number)
    extensions = {**face.extensions, "sealed": face.content_type}
    data = seal(face.image, [read_recipient(recipient)], Label(face.source, face.time, extensions))
    return mint(face.source, face.time, data, "application/x-age", extensions)


def seen_as(number: int) -> View:
    """Return what a frame shows whose only face is this one: each four in a row are one person, who stays."""
    person, look = divmod(number, len(REASONS))
    place = person % 8
    sight = SeenFace((20.0 + 230 * place, 100.0, 80.0, 90.0), 0.9, (), 30.0 * 2**look, b"")
    return View(1920, 1080, (sight,))


def renamed(face: Face, device: str) -> Face:
    """Return a face as another device would have minted it."""
    source = Source(device, face.source.camera)
    return mint(source, face.time, face.image, face.content_type, face.extensions)


def key_of(face: Face) -> str:
    """Return where a face must lie in the bucket, as DESIGN.md has it and not as the store computes it."""
    suffix = {"image/jpeg": "jpg", "application/x-age": "age"}[face.content_type]
    folder = f"dt={face.time:%Y-%m-%d}/device={face.source.device}/camera={face.source.camera}"
    return f"{folder}/{face.id}.{suffix}"


def with_comment(comment: bytes) -> bytes:
    """Return a real JPEG that carries these bytes in comment segments."""
    image = jpeg(0)
    pieces = (comment[start : start + _SEGMENT_BYTES] for start in itertools.count(0, _SEGMENT_BYTES))
    segments = [
        b"\xff\xfe" + (len(piece) + 2).to_bytes(2) + piece for piece in itertools.takewhile(len, pieces)
    ]
    return image[:2] + b"".join(segments) + image[2:]
