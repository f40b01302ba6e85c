"""Makes the face that leaves detect out of a crop: its properties, EXIF in the image, and sealing."""

import functools
import struct
import zlib
from collections.abc import Mapping
from datetime import datetime

from services.common.images.jpeg import START, with_exif
from services.common.sealing.keys import read_recipient
from services.common.wire import envelope
from services.common.wire.faces import Face, mint
from services.common.wire.topics import Source
from services.detect.settings import DetectSettings

MOST_BYTES = 400
"""The most that `add_exif` adds to an image: only the two names differ in length, up to 63 letters each."""

_ASCII, _LONG, _UNDEFINED = 2, 4, 7
_MAKE, _MODEL, _EXIF_DIRECTORY = 0x010F, 0x0110, 0x8769
_VERSION, _TIME, _OFFSET, _FRACTION = 0x9000, 0x9003, 0x9011, 0x9291
_HEADER = b"MM\0\x2a" + struct.pack(">I", 8)
_ENTRY = struct.Struct(">HHI4s")
_INLINE_BYTES = 4

Entry = tuple[int, int, bytes]
"""Tag, type, value."""


def add_exif(image: bytes, source: Source, time: datetime | None) -> bytes:
    """Return an image with EXIF data, for photo managers.

    Args:
        image: a JPEG or PNG as encoders make it, without EXIF data.
        source: device and camera, which become maker and model.
        time: when it was taken, UTC; None if that is not known.
    """
    tiff = _tiff(source, time)
    if image.startswith(START):
        return with_exif(image, tiff)
    at = 8 + 25  # the signature, and the header with its length, name and checksum
    chunk = b"eXIf" + tiff
    return image[:at] + len(tiff).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + image[at:]


def _tiff(source: Source, time: datetime | None) -> bytes:
    names: list[Entry] = [(_MAKE, _ASCII, _text(source.device)), (_MODEL, _ASCII, _text(source.camera))]
    if time is None:
        return _HEADER + _directory(names, len(_HEADER))
    times: list[Entry] = [
        (_VERSION, _UNDEFINED, b"0232"),
        (_TIME, _ASCII, _text(f"{time:%Y:%m:%d %H:%M:%S}")),
        (_OFFSET, _ASCII, _text("+00:00")),
        (_FRACTION, _ASCII, _text(f"{time:%f}")),
    ]
    # The first directory's size does not depend on the second one's offset in it.
    size = len(_directory([*names, (_EXIF_DIRECTORY, _LONG, bytes(4))], len(_HEADER)))
    place = len(_HEADER) + size
    first = _directory([*names, (_EXIF_DIRECTORY, _LONG, place.to_bytes(4))], len(_HEADER))
    return _HEADER + first + _directory(times, place)


def _directory(entries: list[Entry], place: int) -> bytes:
    """Return a directory that starts at offset `place`, followed by its values of more than four bytes."""
    behind = place + 2 + len(entries) * _ENTRY.size + 4
    listed, values = b"", b""
    for tag, kind, value in entries:
        count = len(value) // 4 if kind == _LONG else len(value)
        if len(value) <= _INLINE_BYTES:
            field = value.ljust(_INLINE_BYTES, b"\0")
        else:
            field = (behind + len(values)).to_bytes(4)
            values += value + bytes(len(value) % 2)  # values begin at even offsets
        listed += _ENTRY.pack(tag, kind, count, field)
    return len(entries).to_bytes(2) + listed + bytes(4) + values


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


_LEFT_OUT = {
    "full": frozenset[str](),
    "plain": frozenset({"landmarks"}),
    "none": frozenset(envelope.MEASURED) - {"clock"},
}


def finish(
    settings: DetectSettings,
    source: Source,
    time: datetime,
    image: bytes,
    content_type: str,
    *,
    known: Mapping[str, str],
) -> Face:
    """Return a face as it leaves detect; equal arguments give equal faces, byte for byte.

    Args:
        settings: which properties are left out, and the public keys to seal to; without any it is not sealed.
        source: the camera.
        time: of the frame, UTC.
        image: the crop, encoded.
        content_type: of the image.
        known: all properties of the face.
    """
    extensions = {name: value for name, value in known.items() if name not in _LEFT_OUT[settings.metadata]}
    if not settings.seal_to:
        return mint(source, time, image, content_type, extensions)
    # Loaded only where faces are sealed: it takes a tenth of a second and some megabytes.
    from services.common.sealing.age import Label, seal  # noqa: PLC0415

    extensions[envelope.INSIDE] = content_type
    secret = b"" if settings.seal_secret is None else settings.seal_secret.get_secret_value().encode()
    data = seal(image, _recipients(settings.seal_to), Label(source, time, extensions), secret)
    return mint(source, time, data, envelope.CONTENT_TYPE, extensions)


@functools.lru_cache(maxsize=4)
def _recipients(keys: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(sorted({read_recipient(key) for key in keys}))
