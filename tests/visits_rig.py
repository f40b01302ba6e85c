"""Sights, made by hand."""

from datetime import timedelta

from services.common.wire.seen import Seen, SeenFace, View, wanted_topic
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source

WIDTH, HEIGHT = 1280, 720
FRONT = Source("porch", "front")


def signature(*, tone: int = 128, stripes: int = 1) -> bytes:
    """A face of stripes: upright ones, lying ones, or a board."""
    grey = bytes(
        100 + 60 * ((x * (stripes & 1) + y * (stripes >> 1)) % 2) for y in range(8) for x in range(8)
    )
    return grey + bytes([tone] * 128)


ANN, BOB = signature(), signature(tone=140, stripes=2)


def sight(
    x: float = 600.0,
    y: float = 300.0,
    size: float = 80.0,
    *,
    score: float = 0.9,
    sharpness: float = 120.0,
    looks: bytes = ANN,
    aside: float = 0.0,
) -> SeenFace:
    """A face whose nose is `aside`, in distances of the eyes, of the middle between them."""
    eyes = size / 2
    right, left = x + size / 4, x + 3 * size / 4
    nose = (right + left) / 2 + aside * eyes
    level = y + size / 3
    marks = (right, level, left, level, nose, y + size / 2, right, y + size * 0.8, left, y + size * 0.8)
    return SeenFace((x, y, size, size), score, marks, sharpness, looks)


def seen(
    at_s: float, *sights: SeenFace, number: int = 0, after: int | None = None, paced: bool = False
) -> Seen:
    """What is seen in a frame of that second."""
    return Seen(
        source=FRONT,
        sequence=number,
        time=EPOCH + timedelta(days=20_000, seconds=at_s),
        view=View(WIDTH, HEIGHT, sights),
        answer_to=wanted_topic("porch", "a1"),
        correlation=b"%d" % number,
        paced=paced,
        after=after,
    )
