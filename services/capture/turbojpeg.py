"""Pictures to JPEG with libjpeg-turbo, which releases the interpreter's lock meanwhile."""

from collections.abc import Callable, Mapping

import numpy as np
import simplejpeg

from services.capture.stream.picture import JpegPicture, Picture, YuvPicture
from services.common.errors import Refused
from services.common.images.jpeg import orientation, swaps_sides, with_orientation
from services.common.masking import Hidden, hidden
from services.common.wire.scope import Mask

_UNTURN: Mapping[int, Callable[[Hidden], Hidden]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: np.rot90,
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}
"""By Exif's orientation: from the upright picture's pixels to those that are stored."""


def encode(picture: Picture, quality: int, reduction: int = 1) -> bytes:
    """Return a picture as JPEG of a quality (1 to 100), its sides divided by 1, 2, 4 or 8.

    Raises:
        Refused: `not_a_jpeg`: what the camera sent cannot be decoded.
    """
    if isinstance(picture, JpegPicture):
        return _recode(picture.data, quality, reduction)
    even = _even(picture)
    data: bytes = simplejpeg.encode_jpeg_yuv_planes(even.y, even.u, even.v, quality=quality)
    return data if reduction == 1 else _recode(data, quality, reduction)


def encode_masked(picture: Picture, quality: int, mask: Mask) -> JpegPicture:
    """Return a picture as JPEG with the regions of a mask in black, as detect sees it.

    Raises:
        Refused: `not_a_jpeg`: what the camera sent cannot be decoded.
    """
    data = picture.data if isinstance(picture, JpegPicture) else encode(picture, quality)
    turn = orientation(data)
    try:
        pixels = simplejpeg.decode_jpeg(data, "BGR")
    except ValueError as error:
        raise Refused("not_a_jpeg", str(error)) from error
    height, width = pixels.shape[1::-1] if swaps_sides(turn) else pixels.shape[:2]
    pixels[_UNTURN[turn](hidden(mask, width, height))] = 0
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="BGR", colorsubsampling="420")
    taken_unix_s = picture.taken_unix_s if isinstance(picture, JpegPicture) else None
    return JpegPicture(with_orientation(encoded, turn), taken_unix_s)


def _even(picture: YuvPicture) -> YuvPicture:
    """Return a picture without the last row or column of a side that is odd.

    libjpeg-turbo expects the brightness to be padded to whole chroma samples, and would read past the end of
    a plane that is not.
    """
    height, width = (side - side % 2 for side in picture.y.shape)
    if picture.y.shape == (height, width):
        return picture
    u, v = (plane[: height // 2, : width // 2] for plane in (picture.u, picture.v))
    return YuvPicture(*(np.ascontiguousarray(plane) for plane in (picture.y[:height, :width], u, v)))


def _recode(data: bytes, quality: int, reduction: int) -> bytes:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        pixels = simplejpeg.decode_jpeg(
            data, "BGR", min_height=-(-height // reduction), min_width=-(-width // reduction)
        )
    except ValueError as error:
        raise Refused("not_a_jpeg", str(error)) from error
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="BGR", colorsubsampling="420")
    return with_orientation(encoded, orientation(data))
