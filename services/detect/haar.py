"""The Haar cascade that comes with OpenCV 4: the fallback that needs no model file."""

import threading
from pathlib import Path

import cv2
import numpy as np

from services.common.errors import SetupError
from services.detect.boxes import Detections
from services.detect.codec import BgrImage

SCALE_STEP = 1.3
MIN_NEIGHBOURS = 5
_FILE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"


class Haar:
    """Finds large frontal faces, without scores or landmarks; may be called from several threads.

    Args:
        most: faces in a picture, the largest first; 0 for all.

    Raises:
        SetupError: this OpenCV comes without cascades.
    """

    kind = "haar"
    name = "haar"
    provider = "cpu"

    def __init__(self, most: int) -> None:
        self._most = most
        self._local = threading.local()
        self._cascade()

    def detect(self, picture: BgrImage) -> Detections:
        """Return the faces in a picture, the largest first."""
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        found = self._cascade().detectMultiScale(grey, SCALE_STEP, MIN_NEIGHBOURS)
        boxes = np.array(sorted(map(list, found), key=_largest_first), np.float32).reshape(-1, 4)
        return Detections(boxes[: self._most or None])

    def _cascade(self) -> cv2.CascadeClassifier:
        """Return this thread's classifier: one cannot serve two at once."""
        cascade: cv2.CascadeClassifier | None = getattr(self._local, "cascade", None)
        if cascade is None:
            cascade = self._local.cascade = _load()
        return cascade


def _load() -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(_FILE)) if _FILE.exists() else None
    if cascade is None or cascade.empty():
        raise SetupError(f"{_FILE} is missing: the Haar detector needs opencv-python-headless 4")
    return cascade


def _largest_first(box: list[int]) -> tuple[int, ...]:
    return (-box[2], *box)
