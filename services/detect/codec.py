"""Decodes JPEGs, at full or reduced scale; resizes, encodes and measures pictures.

simplejpeg (libjpeg-turbo) decodes at a reduced scale and releases the interpreter's lock meanwhile; OpenCV
decodes the few JPEGs whose colour sampling libjpeg-turbo's interface has no name for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from services.common.errors import Refused
from services.common.images.jpeg import UPRIGHT, end_of_image, orientation, swaps_sides
from services.common.images.structure import MAX_PIXELS, inspect
from services.common.masking import hide
from services.common.wire.scope import WHOLE, Scope

BgrImage = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""
GreyImage = npt.NDArray[np.uint8]
"""(H, W) uint8."""

_SHARPNESS_SIZE = 128
_END_OF_IMAGE = b"\xff\xd9"
_GREY = 128
_MOST_MISSING = 1 / 16
"""The most of a picture that may be missing at its end. Cheap webcams and the last frame of a recording lack
less."""
# libjpeg-turbo knows all eighths, but has vector code for these alone: 3/8 takes it longer than 1/2.
_DIVISORS = (8, 4, 2)
_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


_TURNS: Mapping[int, Callable[[BgrImage], npt.ArrayLike]] = {
    2: lambda picture: cv2.flip(picture, 1),
    3: lambda picture: cv2.rotate(picture, cv2.ROTATE_180),
    4: lambda picture: cv2.flip(picture, 0),
    5: cv2.transpose,
    6: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    7: lambda picture: cv2.rotate(cv2.transpose(picture), cv2.ROTATE_180),
    8: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""By Exif's orientation: the transformation that makes the picture upright."""


@dataclass(frozen=True, slots=True)
class JpegImage:
    """A frame's picture, still encoded, whose header was read and whose size is allowed.

    Attributes:
        data: the encoded bytes.
        width, height: of the upright picture, in pixels.
        is_plain: whether libjpeg-turbo's interface knows its colour sampling; else OpenCV decodes it.
        turn: its Exif orientation, 1 to 8, which `decode` undoes.
        scope: the parts that are hidden: they are black in `decode`'s pictures.
    """

    data: bytes
    width: int
    height: int
    is_plain: bool
    turn: int = UPRIGHT
    scope: Scope = WHOLE

    @classmethod
    def open(cls, data: bytes, scope: Scope = WHOLE) -> "JpegImage":
        """Read the header; no pixel is decoded.

        Raises:
            Refused: `not_an_image`, `bad_image`, `truncated_image`, `bad_content_type` (a PNG) or
                `bad_dimensions`.
        """
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            is_plain = True
        except ValueError:
            width, height = _inspected_size(data)
            is_plain = False
        if not 0 < width * height <= MAX_PIXELS:
            raise Refused("bad_dimensions", f"{width}x{height}")
        turn = orientation(data)
        if swaps_sides(turn):
            width, height = height, width
        return cls(data, width, height, is_plain, turn, scope)

    def decode(self, width: int = 0, height: int = 0) -> BgrImage:
        """Return the picture, upright, at the smallest of the scales 1, 1/2, 1/4 and 1/8 not below this size.

        Args:
            width: the least, in pixels; 0 for full size.
            height: likewise.

        Returns:
            (H, W, 3) uint8, BGR, owned by the caller; black where the scope hides it.

        Raises:
            Refused: `truncated_image` or `bad_image`.
        """
        picture = _decode(self, self._divisor(width, height))
        upright = picture if self.turn == UPRIGHT else np.asarray(_TURNS[self.turn](picture), np.uint8)
        return hide(upright, self.scope.mask)

    def decode_grey(self, width: int, height: int) -> GreyImage:
        """Return the lightness of the picture, upright, at the scale that `decode` would choose.

        At an eighth libjpeg reads the mean of each block from the file, which is as cheap as decoding gets.
        What the scope hides is not black here.

        Args:
            width: the least, in pixels.
            height: likewise.

        Returns:
            (H, W) uint8, owned by the caller.

        Raises:
            Refused: as `decode`.
        """
        grey = _decode_grey(self, self._divisor(width, height))
        return grey if self.turn == UPRIGHT else np.asarray(_TURNS[self.turn](grey), np.uint8)

    def reduced_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of what `decode` and `decode_grey` return for this size, in pixels."""
        divisor = self._divisor(width, height)
        return -(-self.width // divisor), -(-self.height // divisor)

    def _divisor(self, width: int, height: int) -> int:
        wide, high = min(width or self.width, self.width), min(height or self.height, self.height)
        return next((by for by in _DIVISORS if self.width >= wide * by and self.height >= high * by), 1)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as they are encoded, before the picture is turned, in pixels."""
        return (self.height, self.width) if swaps_sides(self.turn) else (self.width, self.height)


def _inspected_size(data: bytes) -> tuple[int, int]:
    """Return the size of a JPEG that libjpeg-turbo's interface does not know, if its structure is sound.

    It is checked because OpenCV prints warnings about an unsound one. Bytes behind the end, and a missing
    end, are tolerated.
    """
    try:
        info = inspect(data[: end_of_image(data)])
    except Refused as refusal:
        if refusal.reason != "truncated_image":
            raise
        info = inspect(data + _END_OF_IMAGE)
    if info.content_type != "image/jpeg":
        raise Refused("bad_content_type", info.content_type)
    return info.width, info.height


def _decode(jpeg: JpegImage, divisor: int) -> BgrImage:
    if not jpeg.is_plain:
        return _decode_odd(jpeg, divisor)
    try:
        return _simple(jpeg, jpeg.data, divisor, is_strict=True)
    except ValueError:
        return _decode_faulty(jpeg, divisor)


def _decode_grey(jpeg: JpegImage, divisor: int) -> GreyImage:
    if jpeg.is_plain:
        try:
            return _simple(jpeg, jpeg.data, divisor, is_strict=True, colours="GRAY")[:, :, 0]
        except ValueError:
            pass  # a fault that `_decode` may tolerate
    return lightness(_decode(jpeg, divisor))


def _decode_odd(jpeg: JpegImage, divisor: int) -> BgrImage:
    is_ended = end_of_image(jpeg.data) is not None
    data = jpeg.data if is_ended else jpeg.data + _END_OF_IMAGE
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[divisor] | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None:
        raise Refused("bad_image", "cannot be decoded")
    picture = np.asarray(decoded, np.uint8)
    return picture if is_ended else _nearly_whole(picture)


def _decode_faulty(jpeg: JpegImage, divisor: int) -> BgrImage:
    """Decode a faulty JPEG as cameras make them: no end, missing bytes, stray bytes, a flipped bit."""
    try:
        inspect(jpeg.data)
        is_ended = True
    except Refused as refusal:
        is_ended = refusal.reason != "truncated_image"
    try:
        picture = _simple(
            jpeg, jpeg.data if is_ended else jpeg.data + _END_OF_IMAGE, divisor, is_strict=False
        )
    except ValueError as error:
        raise Refused("bad_image" if is_ended else "truncated_image", str(error)[:120]) from error
    return picture if is_ended else _nearly_whole(picture)


def _nearly_whole(picture: BgrImage) -> BgrImage:
    """Return a picture whose data ended early, if only its last rows are missing, which decoders leave grey.

    Raises:
        Refused: `truncated_image`: more is missing.
    """
    missing = float(np.mean(np.all(picture == _GREY, axis=2)))
    if missing > _MOST_MISSING:
        raise Refused("truncated_image", f"{missing:.0%} of it is missing")
    return picture


def _simple(jpeg: JpegImage, data: bytes, divisor: int, *, is_strict: bool, colours: str = "BGR") -> BgrImage:
    width, height = jpeg.stored_size
    picture: BgrImage = simplejpeg.decode_jpeg(
        data,
        colours,
        min_width=-(-width // divisor),
        min_height=-(-height // divisor),
        # Crops are encoded with halved colours again: to repeat a colour loses nothing, to smooth it does.
        fastupsample=True,
        strict=is_strict,
    )
    return picture


def resize(picture: BgrImage, width: int, height: int) -> BgrImage:
    """Return the picture at exactly this size, in pixels; the same object if it has that size."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def lightness(picture: BgrImage) -> GreyImage:
    """Return a picture's grey levels, (H, W) uint8."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def reduce(grey: GreyImage, width: int, height: int) -> GreyImage:
    """Return a picture made smaller, each pixel a mean; the same object if it has that size."""
    if grey.shape == (height, width):
        return grey
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def shrink(picture: BgrImage) -> BgrImage:
    """Return the picture at half its width and height, at least one pixel each."""
    height, width = picture.shape[:2]
    half = max(1, width // 2), max(1, height // 2)
    return np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(picture: BgrImage, quality: int) -> bytes:
    """Return a JPEG, with 4:2:0 colours like nearly every camera's; the same bytes for the same pixels.

    Args:
        picture: not modified; need not be contiguous.
        quality: 1 to 100.
    """
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "BGR", "420")
    return encoded


def encode_png(picture: BgrImage) -> bytes:
    """Return a lossless PNG; the same bytes for the same pixels."""
    _, encoded = cv2.imencode(".png", picture)
    return encoded.tobytes()


def sharpness(picture: BgrImage) -> int:
    """Return how sharp a face is: the variance of the Laplacian (4 neighbours) of its grey levels, rounded.

    The face is scaled to 128 pixels on the long side first, so that faces of different sizes compare: below
    about 50 it is blurred or enlarged from few pixels, above about 500 it is sharp. After Pech-Pacheco et
    al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    height, width = picture.shape[:2]
    scale = _SHARPNESS_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shape = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    edges = cv2.Laplacian(cv2.resize(lightness(picture), size, interpolation=shape), cv2.CV_16S, ksize=1)
    # numpy's own variance makes three arrays of doubles on the way, which takes six times as long.
    _, deviation = cv2.meanStdDev(edges)
    return round(float(deviation[0, 0]) ** 2)
