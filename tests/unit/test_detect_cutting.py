"""What is said of a face before it is cut."""

import numpy as np

from services.common.wire.seen import SIGNATURE_BYTES
from services.detect.boxes import Detections
from services.detect.cutting import sightings

PICTURE = np.random.default_rng(3).integers(0, 255, (120, 160, 3)).astype(np.uint8)
TO_SOURCE = np.array([2, 3], np.float32)


def test_each_face_is_told_in_pixels_of_the_frame() -> None:
    boxes = np.array([[10, 20, 30, 40], [200, 20, 30, 40]], np.float32)
    marks = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    first, beside = sightings(PICTURE, Detections(boxes, np.array([0.75, 0.5], np.float32), marks), TO_SOURCE)
    assert first.box == (20.0, 60.0, 60.0, 120.0)
    assert first.landmarks == (0.0, 3.0, 4.0, 9.0, 8.0, 15.0, 12.0, 21.0, 16.0, 27.0)
    assert (first.score, beside.score) == (0.75, 0.5)
    assert first.sharpness > 0
    assert len(first.signature) == SIGNATURE_BYTES
    # Of one that lies beside the picture nothing is seen.
    assert (beside.sharpness, beside.signature) == (0.0, b"")


def test_a_detector_may_give_no_score_and_no_landmarks() -> None:
    [face] = sightings(PICTURE, Detections(np.array([[0, 0, 50, 50]], np.float32)), TO_SOURCE)
    assert (face.score, face.landmarks) == (1.0, ())


def test_where_there_is_no_face_none_is_told() -> None:
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
    assert sightings(PICTURE, Detections(*none), TO_SOURCE) == ()
