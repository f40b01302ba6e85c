"""What is known of a face before it is cut."""

import cv2
import numpy as np

from services.common.sights import SIGNATURE_SIDE, Sight
from services.detect.boxes import Detections, Floats, clip_box
from services.detect.cutting import within
from services.detect.pictures import Picture, sharpness


def sight(picture: Picture, found: Detections, to_source: Floats) -> tuple[Sight, ...]:
    """Return the faces of a frame, in the order they were found.

    Args:
        picture: as the detector saw it; not modified.
        found: in its pixels.
        to_source: what x and y are multiplied by for pixels of the frame: (2,) float32.
    """
    source = found.scaled(to_source)
    return tuple(_sight(picture, found, source, index) for index in range(len(found)))


def _sight(picture: Picture, found: Detections, source: Detections, index: int) -> Sight:
    height, width = picture.shape[:2]
    left, top, wide, high = (float(value) for value in source.boxes[index])
    part = clip_box(found.boxes[index], width, height)
    face = None if part is None else within(picture, part)
    return Sight(
        box=(left, top, max(wide, 1.0), max(high, 1.0)),
        score=1.0 if source.scores is None else float(source.scores[index]),
        landmarks=() if source.landmarks is None else tuple(map(float, source.landmarks[index].flat)),
        sharpness=0.0 if face is None else float(sharpness(face)),
        signature=b"" if face is None else _signature(face),
    )


def _signature(face: Picture) -> bytes:
    """Return a face as 8x8 pixels in Lab (8 bits each, as OpenCV scales them), plane after plane."""
    small = cv2.resize(face, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB).transpose(2, 0, 1)).tobytes()
