"""The faces that play: those of the real clips, picture after picture."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from services.common.wire.seen import SeenFace, View
from services.detect.boxes import Letterbox
from services.detect.codec import BgrImage, resize
from services.detect.cutting import sightings
from services.detect.detectors import Detector
from services.detect.settings import DetectSettings
from services.forward.visits.matching import Box
from tests.detect_clips import read_clip
from tests.rigs.people.script import HEIGHT, WIDTH
from tests.rigs.people.stage import MARGIN

CLIPS = (
    "classroom.mp4",
    "face-demographics-walking-and-pause.mp4",
    "head-pose-face-detection-female-and-male.mp4",
    "book.mkv",
)
ROOM = "empty-room.mp4"
LEAST_PICTURES = 20

_FACE_SIZE = (160, 200)
_EDGE_PX = 200


def look(detector: Detector, picture: BgrImage, settings: DetectSettings) -> View:
    """Return what detect would see in a picture, as it would ask forward."""
    height, width = picture.shape[:2]
    letterbox = Letterbox.fit(width, height, settings.detection_size_px)
    scaled = resize(picture, letterbox.width, letterbox.height)
    return View(width, height, sightings(scaled, detector.detect(scaled), letterbox.to_source))


def gather(detector: Detector, settings: DetectSettings, clips: Path) -> list[list[BgrImage]]:
    """Return of each person of the clips all pictures, with `MARGIN` around the face."""
    cast: list[list[BgrImage]] = []
    for name in CLIPS:
        people: list[tuple[list[BgrImage], Box]] = []
        for picture in read_clip(clips / name):
            for each in look(detector, picture, settings).faces:
                _file(people, each, _cut(picture, each.box))
        cast += [faces for faces, _ in people if len(faces) >= LEAST_PICTURES]
    return cast


def room(clips: Path, width: int = WIDTH, height: int = HEIGHT) -> BgrImage:
    """Return the room where they play."""
    return resize(read_clip(clips / ROOM)[0], width, height)


def _file(people: list[tuple[list[BgrImage], Box]], each: SeenFace, face: BgrImage) -> None:
    """Put a face to the person who was last seen in this place: nobody in the clips moves fast."""
    for number, (faces, box) in enumerate(people):
        if _are_near(box, each.box):
            faces.append(face)
            people[number] = (faces, each.box)
            return
    people.append(([face], each.box))


def _are_near(one: Box, other: Box) -> bool:
    x, y, width, height = other
    return abs(one[0] - x) < width and abs(one[1] - y) < height


def _cut(picture: BgrImage, box: Iterable[float]) -> BgrImage:
    x, y, width, height = box
    left, top = int(x - MARGIN * width) + _EDGE_PX, int(y - MARGIN * height) + _EDGE_PX
    right, bottom = int(left + (1 + 2 * MARGIN) * width), int(top + (1 + 2 * MARGIN) * height)
    around = (_EDGE_PX, _EDGE_PX, _EDGE_PX, _EDGE_PX)
    wider = cv2.copyMakeBorder(picture, *around, cv2.BORDER_REPLICATE)
    face = cv2.resize(wider[top:bottom, left:right], _FACE_SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(face, np.uint8)
