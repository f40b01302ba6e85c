"""JPEG in, crops out.

simplejpeg (libjpeg-turbo) decodes at a reduced scale and lets go of the interpreter's lock meanwhile; OpenCV
takes the few JPEGs whose colour sampling libjpeg-turbo's interface has no name for.
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
from services.common.shading import hide
from services.common.wire.scope import WHOLE, Scope

BgrImage = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, BGR."""
GreyImage = npt.NDArray[np.uint8]
"""(H, W) uint8."""

_SHARPNESS_SIZE = 128
_END_OF_IMAGE = b"\xff\xd9"
_GREY = 128
_MOST_MISSING = 1 / 16
"""Of a picture that is cut off. What cheap webcams and the last frame of a recording lack is less."""
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
"""By Exif's orientation: what makes the picture upright."""


@dataclass(frozen=True, slots=True)
class JpegImage:
    """A frame's picture, still encoded, with the size that it claims and may have.

    Attributes:
        data: the bytes.
        width: of the upright picture, in pixels.
        height: likewise.
        is_plain: whether libjpeg-turbo's interface knows its colour sampling.
        turn: its Exif orientation, 1 to 8: what `decode` does to make it upright.
        scope: what of it is looked at: what is hidden is black in whatever is decoded.
    """

    data: bytes
    width: int
    height: int
    is_plain: bool
    turn: int = UPRIGHT
    scope: Scope = WHOLE

    @classmethod
    def open(cls, data: bytes, scope: Scope = WHOLE) -> "JpegImage":
        """Read the header.

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
            width: in pixels; 0 for all there is.
            height: likewise.

        Raises:
            Refused: `truncated_image` or `bad_image`.
        """
        picture = _decode(self, self._divisor(width, height))
        upright = picture if self.turn == UPRIGHT else np.asarray(_TURNS[self.turn](picture), np.uint8)
        return hide(upright, self.scope.mask)

    def decode_grey(self, width: int, height: int) -> GreyImage:
        """Return the lightness of the picture, upright, at the scale that `decode` would choose.

        At an eighth libjpeg takes the mean of each block as it stands in the file: there is nothing cheaper.

        Args:
            width: in pixels.
            height: likewise.

        Raises:
            Refused: as `decode`.
        """
        grey = _decode_grey(self, self._divisor(width, height))
        return grey if self.turn == UPRIGHT else np.asarray(_TURNS[self.turn](grey), np.uint8)

    def reduced_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of what `decode` and `decode_grey` return when asked for this size."""
        divisor = self._divisor(width, height)
        return -(-self.width // divisor), -(-self.height // divisor)

    def _divisor(self, width: int, height: int) -> int:
        wide, high = min(width or self.width, self.width), min(height or self.height, self.height)
        return next((by for by in _DIVISORS if self.width >= wide * by and self.height >= high * by), 1)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as they are before it is turned, in pixels."""
        return (self.height, self.width) if swaps_sides(self.turn) else (self.width, self.height)


def _inspected_size(data: bytes) -> tuple[int, int]:
    """Return the size of what libjpeg-turbo's interface does not know, once its structure is sound.

    OpenCV shouts about what is not. What stands behind the end, or an end that is missing, does no harm.
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
            pass  # a fault that `_decode` knows how to bear
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
    """Decode what cameras get wrong: no end, too few bytes, stray ones between segments, a flipped bit."""
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
    """Return a picture whose data ended early, if no more than its last rows are missing.

    Raises:
        Refused: `truncated_image`: more is. Decoders leave it grey.
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
    """Return the picture at exactly this size; itself if it has it."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def lightness(picture: BgrImage) -> GreyImage:
    """Return a picture in grey."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def reduce(grey: GreyImage, width: int, height: int) -> GreyImage:
    """Return a picture made smaller, each pixel a mean; itself if it has the size."""
    if grey.shape == (height, width):
        return grey
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def shrink(picture: BgrImage) -> BgrImage:
    """Return the picture at half its size."""
    height, width = picture.shape[:2]
    half = max(1, width // 2), max(1, height // 2)
    return np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8)


def encode_jpeg(picture: BgrImage, quality: int) -> bytes:
    """Return a JPEG, 4:2:0 like nearly every camera's; the same bytes for the same pixels."""
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "BGR", "420")
    return encoded


def encode_png(picture: BgrImage) -> bytes:
    """Return a PNG, lossless; the same bytes for the same pixels."""
    _, encoded = cv2.imencode(".png", picture)
    return encoded.tobytes()


def sharpness(picture: BgrImage) -> int:
    """Return how sharp a face is: the variance of the Laplacian (4 neighbours) of its grey levels, rounded.

    Scaled to 128 pixels on the long side first, so that faces of different sizes compare: below about 50 is
    blurred or enlarged from little, above about 500 is sharp. After Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", ICPR 2000.
    """
    height, width = picture.shape[:2]
    scale = _SHARPNESS_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shape = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    edges = cv2.Laplacian(cv2.resize(lightness(picture), size, interpolation=shape), cv2.CV_16S, ksize=1)
    # numpy's own variance makes three arrays of doubles on the way, which takes six times as long.
    _, deviation = cv2.meanStdDev(edges)
    return round(float(deviation[0, 0]) ** 2)
