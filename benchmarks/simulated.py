"""Devices that send faces without a camera, and the book of what came of each face."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache

import cv2
import numpy as np

from services.common.faces import Face, encode_face, mint
from services.common.mqtt import Broker, Link
from services.common.receipts import decode_receipt
from services.common.topics import Source, device_topic

_KNOWN = {
    "box": "812,240,132,132",
    "framesize": "1920x1080",
    "score": "0.912",
    "landmarks": "840.1,290.2,902.3,288.8,870.0,320.5,846.2,341.9,898.4,340.0",
    "sharpness": "213.4",
    "detector": "yunet",
}


class Ledger:
    """Which faces were published when, and how long each waited for its receipt.

    Attributes:
        published: how many faces.
        receipts: how many have come in, each for one face or several.
    """

    def __init__(self) -> None:
        self.published = 0
        self.receipts = 0
        self._waiting_s: dict[str, float] = {}
        self._took: list[tuple[float, float]] = []

    @property
    def waiting(self) -> int:
        """How many faces have no receipt yet."""
        return len(self._waiting_s)

    def note_published(self, face_id: str) -> None:
        """Note a face that leaves now."""
        self.published += 1
        self._waiting_s[face_id] = time.monotonic()

    def note_receipt(self, ids: Iterable[str]) -> None:
        """Note a receipt; a second one for the same face says nothing new."""
        self.receipts += 1
        for face_id in ids:
            if (at_s := self._waiting_s.pop(face_id, None)) is not None:
                self._took.append((at_s, time.monotonic() - at_s))

    def took_ms(self, since_s: float, until_s: float) -> list[float]:
        """Return what the faces took that were published between two moments of the monotonic clock."""
        return [took_s * 1e3 for at_s, took_s in self._took if since_s <= at_s < until_s]


class Device:
    """Publishes faces under a name, and notes their receipts.

    Args:
        name: the device's.
        broker: the link's name and the broker's address: `local` for a place in front of forward, where the
            receipts are `taken`; `cloud` for forward's own place, where they are `stored`.
        ledger: is told; may be shared.
    """

    def __init__(self, name: str, broker: tuple[str, str], ledger: Ledger) -> None:
        where, url = broker
        self._source = Source(name, "front")
        self._ledger = ledger
        self.link = Link(
            where,
            Broker(url),
            identity=f"simulated-{name}",
            subscriptions=[device_topic(name, "taken" if where == "local" else "stored")],
            receive_maximum=256,
        )

    def publish(self, number: int) -> None:
        """Publish a face, different for each number."""
        face = new_face(self._source, number, datetime.now(UTC))
        self._ledger.note_published(face.id)
        self.link.publish(encode_face(face))

    async def run(self) -> None:
        """Be connected and note receipts until cancelled."""
        async with self.link:
            async for delivery in self.link:
                delivery.acknowledge()
                self._ledger.note_receipt(decode_receipt(delivery.message).ids)


def new_face(source: Source, number: int, taken: datetime) -> Face:
    """Return a face of 20 kB, different for each number, with the properties that detect gives it."""
    image = _picture()
    image = image[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8) + image[2:]
    return mint(source, taken, image, "image/jpeg", _KNOWN)


@cache
def _picture() -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (132, 132, 3), np.uint8)
    encoded: bytes = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 87])[1].tobytes()
    return encoded
