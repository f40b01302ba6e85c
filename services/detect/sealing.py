"""What leaves detect of a face: how much of what was measured, and whether anybody can look at it."""

import functools
from collections.abc import Mapping
from datetime import datetime

from services.common.sealing.keys import read_recipient
from services.common.wire import envelope
from services.common.wire.faces import Face, mint
from services.common.wire.topics import Source
from services.detect.settings import DetectSettings

_LEFT_OUT = {
    "full": frozenset[str](),
    "plain": frozenset({"landmarks"}),
    "none": frozenset(envelope.MEASURED) - {"clock"},
}


def finished(
    settings: DetectSettings,
    source: Source,
    time: datetime,
    image: bytes,
    content_type: str,
    *,
    known: Mapping[str, str],
) -> Face:
    """Return a face as it leaves detect. The same one comes out the same each time.

    Args:
        settings: say what is left out, and for whom it is sealed.
        source: the camera.
        time: of the frame, UTC.
        image: the crop.
        content_type: of it.
        known: all that is known of the face.
    """
    extensions = {name: value for name, value in known.items() if name not in _LEFT_OUT[settings.metadata]}
    if not settings.seal_to:
        return mint(source, time, image, content_type, extensions)
    # Loaded only where it is wanted: it takes a tenth of a second and some megabytes.
    from services.common.sealing.age import Label, seal  # noqa: PLC0415

    extensions[envelope.INSIDE] = content_type
    secret = b"" if settings.seal_secret is None else settings.seal_secret.get_secret_value().encode()
    data = seal(image, _recipients(settings.seal_to), Label(source, time, extensions), secret)
    return mint(source, time, data, envelope.CONTENT_TYPE, extensions)


@functools.lru_cache(maxsize=4)
def _recipients(keys: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(sorted({read_recipient(key) for key in keys}))
