"""JPEG in, crops out.

simplejpeg (libjpeg-turbo) decodes at a reduced scale and lets go of the interpreter's lock meanwhile; OpenCV
takes the few JPEGs whose colour sampling libjpeg-turbo's interface has no name for.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from services.common.errors import Refused
from services.common.images import MAX_PIXELS, inspect

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""

_SHARPNESS_SIZE = 128
_END_OF_IMAGE = b"\xff\xd9"
# libjpeg-turbo knows all eighths, but has vector code for these alone: 3/8 takes it longer than 1/2.
_DIVISORS = (8, 4, 2)
_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A frame's picture, still encoded, with the size that it claims and may have."""

    data: bytes
    width: int
    height: int
    is_plain: bool

    @classmethod
    def open(cls, data: bytes) -> "Jpeg":
        """Read the header.

        Raises:
            Refused: `not_an_image`, `bad_image`, `truncated_image`, `bad_content_type` (a PNG) or
                `bad_dimensions`.
        """
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            info = inspect(data)
            if info.content_type != "image/jpeg":
                raise Refused("bad_content_type", info.content_type) from None
            return cls(data, info.width, info.height, is_plain=False)
        if not 0 < width * height <= MAX_PIXELS:
            raise Refused("bad_dimensions", f"{width}x{height}")
        return cls(data, width, height, is_plain=True)

    def decode(self, width: int = 0, height: int = 0) -> Picture:
        """Return the picture at the smallest of the scales 1, 1/2, 1/4 and 1/8 that is not below this size.

        Args:
            width: in pixels; 0 for all there is.
            height: likewise.

        Raises:
            Refused: `truncated_image` or `bad_image`.
        """
        wide, high = min(width or self.width, self.width), min(height or self.height, self.height)
        divisor = next((by for by in _DIVISORS if self.width >= wide * by and self.height >= high * by), 1)
        return _decode(self, divisor)


def _decode(jpeg: Jpeg, divisor: int) -> Picture:
    if jpeg.is_plain:
        try:
            return _simple(jpeg, jpeg.data, divisor, is_strict=True)
        except ValueError:
            return _decode_faulty(jpeg, divisor)
    flag = _REDUCED[divisor] | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), flag)
    if picture is None:
        raise Refused("bad_image", "cannot be decoded")
    return np.asarray(picture, np.uint8)


def _decode_faulty(jpeg: Jpeg, divisor: int) -> Picture:
    """Decode what cameras get wrong: no end marker, stray bytes between segments, a flipped bit.

    A picture whose data ends early is refused: its lower part would be grey.
    """
    try:
        inspect(jpeg.data)
        is_complete = True
    except Refused as refusal:
        is_complete = refusal.reason != "truncated_image"
    try:
        if is_complete:
            return _simple(jpeg, jpeg.data, divisor, is_strict=False)
        return _simple(jpeg, jpeg.data + _END_OF_IMAGE, divisor, is_strict=True)
    except ValueError as error:
        reason = "bad_image" if is_complete else "truncated_image"
        raise Refused(reason, str(error)[:120]) from error


def _simple(jpeg: Jpeg, data: bytes, divisor: int, *, is_strict: bool) -> Picture:
    picture: Picture = simplejpeg.decode_jpeg(
        data,
        "BGR",
        min_width=-(-jpeg.width // divisor),
        min_height=-(-jpeg.height // divisor),
        # Crops are encoded with halved colours again: to repeat a colour loses nothing, to smooth it does.
        fastupsample=True,
        strict=is_strict,
    )
    return picture


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Return the picture at exactly this size; itself if it has it."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def shrink(picture: Picture) -> Picture:
    """Return the picture at half its size."""
    height, width = picture.shape[:2]
    half = max(1, width // 2), max(1, height // 2)
    return np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Return a JPEG, 4:2:0 like nearly every camera's; the same bytes for the same pixels."""
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "BGR", "420")
    return encoded


def encode_png(picture: Picture) -> bytes:
    """Return a PNG, lossless; the same bytes for the same pixels."""
    _, encoded = cv2.imencode(".png", picture)
    return encoded.tobytes()


def sharpness(picture: Picture) -> int:
    """Return how sharp a face is: the variance of the Laplacian (4 neighbours) of its grey levels, rounded.

    Scaled to 128 pixels on the long side first, so that faces of different sizes compare: below about 50 is
    blurred or enlarged from little, above about 500 is sharp. After Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", ICPR 2000.
    """
    height, width = picture.shape[:2]
    scale = _SHARPNESS_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    shape = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    edges = cv2.Laplacian(cv2.resize(grey, size, interpolation=shape), cv2.CV_16S, ksize=1)
    return round(float(edges.var()))
