"""Cuts faces out of pictures, and measures for forward what a face is like before it is cut."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np

from services.common.wire.seen import SIGNATURE_SIDE, SeenFace
from services.detect import codec
from services.detect.boxes import Detections, Floats, Rectangle, clip_box, crop_rectangle
from services.detect.codec import BgrImage, sharpness


def sightings(picture: BgrImage, found: Detections, to_source: Floats) -> tuple[SeenFace, ...]:
    """Return the faces of a frame as forward is told of them, in the order in which they were found.

    Args:
        picture: (H, W, 3) uint8, BGR, as the detector saw it; not modified.
        found: the faces, in pixels of `picture`.
        to_source: the factors from x and y in `picture` to pixels of the frame: (2,) float32.
    """
    source = found.scaled(to_source)
    count = len(found)
    # Converted to Python's numbers all at once: one by one numpy takes as long as the pixels do.
    boxes: list[list[float]] = source.boxes.tolist()
    scores: list[float] = [1.0] * count if source.scores is None else source.scores.tolist()
    landmarks: list[list[float]] = [[]] * count
    if source.landmarks is not None:
        landmarks = source.landmarks.reshape(-1, 10).tolist()
    faces = (_cut(picture, box) for box in found.boxes)
    return tuple(map(_sight, faces, boxes, scores, landmarks))


def _cut(picture: BgrImage, box: Floats) -> BgrImage | None:
    height, width = picture.shape[:2]
    part = clip_box(box, width, height)
    return None if part is None else within(picture, part)


def _sight(face: BgrImage | None, box: Sequence[float], score: float, landmarks: Sequence[float]) -> SeenFace:
    left, top, wide, high = box
    return SeenFace(
        box=(left, top, max(wide, 1.0), max(high, 1.0)),
        score=score,
        landmarks=tuple(landmarks),
        sharpness=0.0 if face is None else float(sharpness(face)),
        signature=b"" if face is None else _signature(face),
    )


def _signature(face: BgrImage) -> bytes:
    """Return a face as 8x8 pixels in Lab (8 bits each, as OpenCV scales them), plane after plane."""
    small = cv2.resize(face, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB).transpose(2, 0, 1)).tobytes()


_LEAST_SIDE_PX = 16


class CropStyle(NamedTuple):
    """How faces are cut and encoded.

    Attributes:
        margin: how much is cut beyond the face on each side, as a fraction of its size.
        format: `jpeg` or `png`.
        quality: of a JPEG, 1 to 100.
        most_bytes: a crop whose image is larger is halved in width and height until it fits.
    """

    margin: float
    format: Literal["jpeg", "png"]
    quality: int
    most_bytes: int


class Crop(NamedTuple):
    """The image of a face.

    Attributes:
        box: the face, in whole pixels of the picture, without the margin.
        crop: the area that was cut, with the margin, in the same pixels; the image may be smaller.
        sharpness: of the face without the margin; see `codec.sharpness`.
        content_type: `image/jpeg` or `image/png`.
        image: encoded.
    """

    box: Rectangle
    crop: Rectangle
    sharpness: int
    content_type: str
    image: bytes


def cut(whole: BgrImage, box: Floats, style: CropStyle) -> Crop | None:
    """Cut one face out of a picture.

    Args:
        whole: (H, W, 3) uint8, BGR, in full size; not modified.
        box: (4,) float32, left, top, width, height, in pixels of `whole`.
        style: how to cut and encode it.

    Returns:
        None if the box lies beside the picture, in the padding that the detector saw.
    """
    height, width = whole.shape[:2]
    face, crop = clip_box(box, width, height), crop_rectangle(box, style.margin, width, height)
    if face is None or crop is None:
        return None
    image, content_type = _encode(within(whole, crop), style)
    return Crop(face, crop, codec.sharpness(within(whole, face)), content_type, image)


def about_bytes(box: Floats, style: CropStyle) -> int:
    """Return about the size of a face's image: a byte for each pixel that is cut, more than most need.

    Args:
        box: as for `cut`.
        style: how it would be cut.
    """
    _, _, width, height = (float(value) for value in box)
    return min(style.most_bytes, round(width * height * (1 + 2 * style.margin) ** 2))


def _encode(crop: BgrImage, style: CropStyle) -> tuple[bytes, str]:
    """Return the image and its content type, halved in width and height until it has the bytes allowed."""
    while True:
        if style.format == "png":
            image, content_type = codec.encode_png(crop), "image/png"
        else:
            image, content_type = codec.encode_jpeg(crop, style.quality), "image/jpeg"
        height, width = crop.shape[:2]
        if len(image) <= style.most_bytes or min(width, height) < 2 * _LEAST_SIDE_PX:
            return image, content_type
        crop = codec.shrink(crop)


def within(picture: BgrImage, part: Rectangle) -> BgrImage:
    """Return a part of a picture, as a view of the same memory."""
    return picture[part.y : part.y + part.height, part.x : part.x + part.width]
