"""Geometry: from a frame to the detector's canvas and back, and from a detection to a crop."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

NO_BOXES: Floats = np.zeros((0, 4), np.float32)
MULTIPLE_PX = 32
"""Sides of what a network sees are multiples of it: its coarsest grid has cells of that size."""
MOST_ENLARGED = 2.0
"""How much a frame smaller than the detection size is enlarged at most: beyond it there is nothing to see."""
NMS_OVERLAP = 0.3
"""The threshold of `cv2.FaceDetectorYN`: boxes that overlap more are one face."""

LEAST_SHRUNK = 0.97
"""The factor by which a picture may be shrunk further where that saves 32 rows: 16:9 at 640 pixels becomes
626x352 on a canvas of 640x352, which costs a twelfth less than 640x360 on 640x384."""

_EDGE_PX = 16
"""A face whose middle is nearer to the edge of a part is cut off by it."""
_MAX_CANDIDATES = 5_000


class Rectangle(NamedTuple):
    """Whole pixels: left and top edge, width and height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a frame lies on the detector's canvas: scaled, at the top left, the rest black.

    Attributes:
        source_width, source_height: the frame, in pixels.
        width, height: the scaled frame.
        canvas_width, canvas_height: the canvas; multiples of 32, as the network's strides want them.
    """

    source_width: int
    source_height: int
    width: int
    height: int
    canvas_width: int
    canvas_height: int

    @classmethod
    def fit(cls, source_width: int, source_height: int, size: int) -> Self:
        """Return the letterbox whose scaled frame is about `size` pixels on the long side; 0: not scaled."""
        scale = _scale(source_width, source_height, size) if size else 1.0
        width = max(1, round(source_width * scale))
        height = max(1, round(source_height * scale))
        return cls(source_width, source_height, width, height, padded(width), padded(height))

    @property
    def to_source(self) -> Floats:
        """Return the factors from x and y on the canvas to pixels of the source frame: (2,) float32.

        The two differ a little, because each side is rounded to whole pixels by itself.
        """
        return np.array([self.source_width / self.width, self.source_height / self.height], np.float32)


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces in a picture, in its pixels, best first.

    Attributes:
        boxes: (N, 4) float32, left, top, width, height.
        scores: (N,) float32, 0..1; None where the detector gives no score.
        landmarks: (N, 5, 2) float32, x and y of the right eye, left eye, nose tip and right and left corner
            of the mouth (right and left are the person's own); None where the detector gives none.
        doubtful: (M, 4) float32, boxes whose score is a little below a face's, beside those of the faces;
            `selected` and `joined` leave them out.
    """

    boxes: Floats
    scores: Floats | None = None
    landmarks: Floats | None = None
    doubtful: Floats = field(default_factory=lambda: NO_BOXES)

    def __len__(self) -> int:
        return len(self.boxes)

    def scaled(self, factors: Floats) -> "Detections":
        """Return the same faces with every x and y multiplied by the two `factors`."""
        landmarks = None if self.landmarks is None else self.landmarks * factors
        doubled = np.tile(factors, 2)
        return Detections(self.boxes * doubled, self.scores, landmarks, self.doubtful * doubled)

    def moved(self, x: float, y: float) -> "Detections":
        """Return the same faces, moved right by `x` and down by `y` pixels."""
        by = np.array([x, y], np.float32)
        landmarks = None if self.landmarks is None else self.landmarks + by
        corner = np.array([x, y, 0, 0], np.float32)
        return Detections(self.boxes + corner, self.scores, landmarks, self.doubtful + corner)

    def large_enough(self, pixels: float) -> npt.NDArray[np.intp]:
        """Return the indices of the faces whose box is at least `pixels` wide and high."""
        return np.flatnonzero(self.boxes[:, 2:].min(axis=1, initial=np.inf) >= pixels)

    def selected(self, indices: npt.NDArray[np.intp]) -> "Detections":
        """Return the faces at these indices, in their order."""
        scores = None if self.scores is None else self.scores[indices]
        landmarks = None if self.landmarks is None else self.landmarks[indices]
        return Detections(self.boxes[indices], scores, landmarks)


def joined(found: Sequence[Detections]) -> Detections:
    """Return the faces of several detections as one, in their order; all are of one detector."""
    if not found:
        return NO_FACES
    scores = [each.scores for each in found if each.scores is not None]
    landmarks = [each.landmarks for each in found if each.landmarks is not None]
    return Detections(
        np.concatenate([each.boxes for each in found]),
        np.concatenate(scores) if scores else None,
        np.concatenate(landmarks) if landmarks else None,
    )


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Return the intersection over union (N, M) of boxes (N, 4) with others (M, 4)."""
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    ends = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    shared = np.clip(ends - starts, 0, None).prod(axis=2)
    areas = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)[None, :]
    found: Floats = shared / np.maximum(areas - shared, 1e-6)
    return found


NO_FACES = Detections(NO_BOXES, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def _scale(width: int, height: int, size: int) -> float:
    scale = min(size / max(width, height), MOST_ENLARGED)
    short = min(width, height)
    saving = short * scale // MULTIPLE_PX * MULTIPLE_PX / short
    return saving if saving >= scale * LEAST_SHRUNK else scale


def padded(pixels: int) -> int:
    """Return the next multiple of 32."""
    return -(-pixels // MULTIPLE_PX) * MULTIPLE_PX


def corners_of(cells: npt.NDArray[np.intp], columns: int) -> Floats:
    """Return column and row, (n, 2) float32, of cells of a network's grid, numbered row by row."""
    return np.stack([cells % columns, cells // columns], axis=1).astype(np.float32)


def suppress(found: Detections, most: int, overlap: float = NMS_OVERLAP) -> Detections:
    """Keep the best of the boxes that overlap each other (greedy non-maximum suppression).

    Args:
        found: with scores, all above 0; not modified.
        most: how many to keep; 0 for all.
        overlap: intersection over union above which two boxes are one face.

    Returns:
        Best first. Equal scores are ordered by box, so that the outcome never depends on the order given.
    """
    assert found.scores is not None
    x, y, width, height = found.boxes.T
    order = np.lexsort((height, width, y, x, -found.scores))[:_MAX_CANDIDATES]
    # OpenCV keeps the order of equal scores; written in numpy this takes five times as long.
    boxes: Any = found.boxes[order]  # its type stubs know lists only
    scores: Any = found.scores[order]
    kept = np.array(cv2.dnn.NMSBoxes(boxes, scores, 0.0, overlap), np.intp)
    return found.selected(order[kept][: most or None])


def wholly_seen(boxes: Floats, part: Rectangle, width: int, height: int) -> npt.NDArray[np.intp]:
    """Return the indices of the boxes that the edge of a part of a picture does not cut off.

    Beside the part the network saw black, so its box of a face that is cut off is worse than the known one.

    Args:
        boxes: (N, 4) float32, of faces in the part, in pixels of the picture.
        part: what the network saw; it may reach beyond the picture.
        width: of the picture, in pixels.
        height: likewise.
    """
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    first = [-np.inf if part.x == 0 else part.x + _EDGE_PX, -np.inf if part.y == 0 else part.y + _EDGE_PX]
    right, below = part.x + part.width, part.y + part.height
    last = [np.inf if right >= width else right - _EDGE_PX, np.inf if below >= height else below - _EDGE_PX]
    return np.flatnonzero(((centres >= first) & (centres <= last)).all(axis=1))


def clip_box(box: Floats, frame_width: int, frame_height: int) -> Rectangle | None:
    """Return a box in whole pixels within the frame, or None if it lies outside of it."""
    return _clip(box, 0.0, frame_width, frame_height)


def crop_rectangle(box: Floats, margin: float, frame_width: int, frame_height: int) -> Rectangle | None:
    """Return the area to cut for a box: `margin` times its size more on each side, clipped to the frame.

    None if the box lies outside the frame.
    """
    return _clip(box, margin, frame_width, frame_height)


def _clip(box: Floats, margin: float, frame_width: int, frame_height: int) -> Rectangle | None:
    x, y, width, height = box.tolist()
    left = _within(x - margin * width, frame_width)
    top = _within(y - margin * height, frame_height)
    right = _within(x + width + margin * width, frame_width)
    bottom = _within(y + height + margin * height, frame_height)
    if right <= left or bottom <= top:
        return None
    return Rectangle(left, top, right - left, bottom - top)


def _within(position: float, limit: int) -> int:
    return round(min(max(position, 0.0), float(limit)))
