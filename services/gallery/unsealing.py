"""Pictures of sealed faces: opened where the gallery has a private key, else a lock."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.common.storage.keys import FaceKey
from services.common.storage.objects import StoredObject
from services.common.wire import envelope

LOCK = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" role="img" aria-label="sealed">\
<rect width="96" height="96" fill="#8884"/><g fill="none" stroke="#888" stroke-width="5">\
<rect x="30" y="44" width="36" height="28" rx="4"/><path d="M37 44v-9a11 11 0 0 1 22 0v9"/></g></svg>"""
"""Shown in place of a picture that cannot be opened."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shown:
    """An image and its content type."""

    image: bytes
    content_type: str


class Unsealer:
    """Opens sealed faces.

    Args:
        identities: private keys; without any each sealed face is shown as a lock.
    """

    def __init__(self, identities: Sequence[bytes]) -> None:
        self._identities = identities

    def opened(self, key: FaceKey, item: StoredObject) -> Shown:
        """Return the picture of a sealed face, or the lock."""
        return self.picture(key, item) or Shown(LOCK, "image/svg+xml")

    def picture(self, key: FaceKey, item: StoredObject) -> Shown | None:
        """Return the picture of a sealed face, or None where no key opens it or its metadata were changed."""
        inside = item.metadata.get(envelope.INSIDE, "")
        if not self._identities or inside not in ("image/jpeg", "image/png"):
            return None
        from services.common.sealing.age import CannotOpen, Label, open_sealed  # noqa: PLC0415 - only where keys are

        try:
            label = Label(key.source, key.time, item.metadata)
            return Shown(open_sealed(item.body, self._identities, label), inside)
        except CannotOpen as error:
            log.warning("gallery.not_opened", id=key.id, why=str(error))
            return None
