"""What is known of a face before it is cut."""

from collections.abc import Sequence

import cv2
import numpy as np

from services.common.wire.sights import SIGNATURE_SIDE, Sight
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
    count = len(found)
    # As Python's own numbers all at once: one by one numpy takes as long as the pixels do.
    boxes: list[list[float]] = source.boxes.tolist()
    scores: list[float] = [1.0] * count if source.scores is None else source.scores.tolist()
    landmarks: list[list[float]] = [[]] * count
    if source.landmarks is not None:
        landmarks = source.landmarks.reshape(-1, 10).tolist()
    faces = (_cut(picture, box) for box in found.boxes)
    return tuple(map(_sight, faces, boxes, scores, landmarks))


def _cut(picture: Picture, box: Floats) -> Picture | None:
    height, width = picture.shape[:2]
    part = clip_box(box, width, height)
    return None if part is None else within(picture, part)


def _sight(face: Picture | None, box: Sequence[float], score: float, landmarks: Sequence[float]) -> Sight:
    left, top, wide, high = box
    return Sight(
        box=(left, top, max(wide, 1.0), max(high, 1.0)),
        score=score,
        landmarks=tuple(landmarks),
        sharpness=0.0 if face is None else float(sharpness(face)),
        signature=b"" if face is None else _signature(face),
    )


def _signature(face: Picture) -> bytes:
    """Return a face as 8x8 pixels in Lab (8 bits each, as OpenCV scales them), plane after plane."""
    small = cv2.resize(face, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB).transpose(2, 0, 1)).tobytes()
