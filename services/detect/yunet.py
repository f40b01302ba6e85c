"""YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023)."""

import numpy as np
import numpy.typing as npt

from services.detect.boxes import NO_FACES, Detections, Floats, corners_of
from services.detect.network import Family

STRIDES = (8, 16, 32)


def decode(outputs: list[Floats], canvas_width: int, threshold: float) -> Detections:
    """Return the candidates that YuNet's outputs hold, in pixels of the canvas, in no order.

    After `FaceDetectorYNImpl::postProcess` of OpenCV 4 (modules/objdetect/src/face_detect.cpp): each cell of
    each stride's grid is a candidate; its score is the geometric mean of class and objectness.

    Args:
        outputs: of one picture: cls (n, 1) for strides 8, 16, 32, then obj (n, 1), bbox (n, 4) and
            kps (n, 10) alike.
        canvas_width: of the picture, a multiple of 32.
        threshold: the least score, 0..1.
    """
    classes, objects, boxes, landmarks = (outputs[at : at + len(STRIDES)] for at in range(0, 12, 3))
    squares = [(kinds * things)[:, 0] for kinds, things in zip(classes, objects, strict=True)]
    cells = [np.flatnonzero(square >= threshold * threshold) for square in squares]
    counts = [len(cell) for cell in cells]
    if not any(counts):
        return NO_FACES
    # Few cells pass: gathered first, they are computed all at once.
    stride = np.repeat(np.array(STRIDES, np.float32), counts)[:, None]
    corners = np.concatenate(
        [corners_of(cell, canvas_width // each) for cell, each in zip(cells, STRIDES, strict=True)]
    )
    box = _gather(boxes, cells)
    sizes = np.exp(box[:, 2:]) * stride
    starts = (corners + box[:, :2]) * stride - sizes / 2
    points = (_gather(landmarks, cells).reshape(-1, 5, 2) + corners[:, None]) * stride[:, None]
    scores = np.sqrt(np.minimum(_gather(squares, cells), 1))
    return Detections(np.hstack([starts, sizes]), scores, points)


def _gather(levels: list[Floats], cells: list[npt.NDArray[np.intp]]) -> Floats:
    return np.concatenate([level[cell] for level, cell in zip(levels, cells, strict=True)])


YUNET = Family(
    kind="yunet",
    title="YuNet",
    input_name="input",
    outputs=tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES),
    is_rgb=False,
    decode=decode,
    content=str,
)
