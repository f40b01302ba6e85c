"""Live frames of real scenes, some of which go without a look."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.common.errors import Refused
from services.common.images.jpeg import with_orientation
from services.common.wire.frames import Frame
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect.boxes import Detections, clip_box, overlaps
from services.detect.codec import BgrImage, encode_jpeg
from services.detect.detectors import Detector, open_detector
from services.detect.motion_gate import MotionGate
from services.detect.pipeline import Look, Pipeline
from services.detect.settings import DetectSettings
from tests.conftest import skip
from tests.detect_clips import MODELS, clip_jpegs, need_model, read_clip
from tests.odd_jpeg import odd_jpeg

SETTINGS = DetectSettings(device="porch", detector="yunet", model_dir=MODELS, keep="visits")


class Counted:
    """A detector that counts how often it is asked, and how many pixels it is shown."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.kind, self.name, self.provider = detector.kind, detector.name, detector.provider
        self.looks = 0
        self.pixels = 0

    def detect(self, picture: BgrImage) -> Detections:
        self.looks += 1
        self.pixels += picture.shape[0] * picture.shape[1]
        return self._detector.detect(picture)


@pytest.fixture(scope="module")
def yunet() -> Iterator[Detector]:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    with open_detector(SETTINGS) as detector:
        yield detector


@pytest.fixture
def detector(yunet: Detector) -> Counted:
    return Counted(yunet)


@pytest.fixture
def in_parts(detector: Counted) -> MotionGate:
    return MotionGate(Pipeline(detector, SETTINGS), 10, by_parts=True)


@pytest.fixture
def watch(detector: Counted) -> MotionGate:
    return MotionGate(Pipeline(detector, SETTINGS), 10, by_parts=False)


def live(jpegs: Sequence[bytes], per_s: float, camera: str = "front") -> Iterator[Frame]:
    for number, jpeg in enumerate(jpegs):
        time = EPOCH + timedelta(days=20_000, seconds=number / per_s)
        yield Frame(Source("porch", camera), number, time, jpeg)


def noisy(picture: BgrImage, count: int, level: float = 2.0) -> list[bytes]:
    """Pictures of one scene by a camera whose sensor makes noise."""
    chance = np.random.default_rng(5)
    height, width = picture.shape[:2]
    pictures = (
        picture + level * chance.standard_normal((height, width, 1), np.float32) for _ in range(count)
    )
    return [encode_jpeg(np.clip(each, 0, 255).astype(np.uint8), 85) for each in pictures]


def room(clips: Path, width: int, height: int) -> BgrImage:
    picture = read_clip(clips / "empty-room.mp4")[0]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def look_at(watch: MotionGate, frames: Iterator[Frame]) -> list[Look]:
    return [watch.look(frame) for frame in frames]


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (640, 480), (320, 240)])
def test_an_empty_room_is_looked_at_twice_a_second(
    width: int, height: int, detector: Counted, watch: MotionGate, clips: Path
) -> None:
    looks = look_at(watch, live(noisy(room(clips, width, height), 17), per_s=8))
    assert detector.looks == 5
    assert all(look.is_still for look in looks[1:])
    assert {(look.view.width, look.view.height) for look in looks} == {(width, height)}


def test_somebody_who_appears_is_seen_in_that_very_frame(
    detector: Counted, watch: MotionGate, clips: Path
) -> None:
    empty = room(clips, 1280, 720)
    face = read_clip(clips / "book.mkv")[0]
    there = empty.copy()
    small = cv2.resize(face, (240, 180), interpolation=cv2.INTER_AREA)
    there[300:480, 900:1140] = small
    looks = look_at(watch, live([*noisy(empty, 14), *noisy(there, 1)], per_s=10))
    assert [len(look.found) for look in looks] == [0] * 14 + [1]
    assert detector.looks == 4


@pytest.mark.parametrize("clip", ["classroom.mp4", "face-demographics-walking-and-pause.mp4"])
def test_where_somebody_is_each_frame_is_looked_at(
    clip: str, detector: Counted, watch: MotionGate, clips: Path
) -> None:
    jpegs = clip_jpegs(clips / clip)
    looks = look_at(watch, live(jpegs, per_s=12))
    whole = [Pipeline(detector, SETTINGS).look(frame) for frame in live(jpegs, per_s=12)]
    assert [len(look.found) for look in looks] == [len(look.found) for look in whole]


@pytest.mark.parametrize(
    ("clip", "most_shown"),
    [("classroom.mp4", 0.8), ("face-demographics-walking-and-pause.mp4", 0.9), ("book.mkv", 0.6)],
)
def test_in_parts_everybody_is_seen_in_every_frame_for_less(
    clip: str, most_shown: float, detector: Counted, in_parts: MotionGate, clips: Path
) -> None:
    jpegs = clip_jpegs(clips / clip)
    looks = look_at(in_parts, live(jpegs, per_s=12))
    shown, detector.pixels = detector.pixels, 0
    whole = [Pipeline(detector, SETTINGS).look(frame) for frame in live(jpegs, per_s=12)]
    assert [len(look.found) for look in looks] == [len(look.found) for look in whole]
    for look, other in zip(looks, whole, strict=True):
        nearest = overlaps(look.found.boxes, other.found.boxes).max(axis=1)
        assert nearest.min() > 0.5
        assert len(look.view.faces) == len(look.found)
    assert shown < most_shown * detector.pixels


def test_in_parts_centerface_sees_everybody_too(clips: Path) -> None:
    need_model("centerface")
    chosen = SETTINGS.model_copy(update={"detector": "centerface"})
    jpegs = clip_jpegs(clips / "classroom.mp4")[:24]
    with open_detector(chosen) as detector:
        counted = Counted(detector)
        looks = look_at(MotionGate(Pipeline(counted, chosen), 10, by_parts=True), live(jpegs, per_s=12))
    assert [len(look.found) for look in looks] == [4] * 24
    assert counted.pixels < 0.8 * 24 * 640 * 352


def test_who_does_not_move_is_told_of_in_each_frame_and_looked_at_twice_a_second(
    detector: Counted, in_parts: MotionGate, clips: Path
) -> None:
    jpegs = noisy(read_clip(clips / "book.mkv")[0], 17)
    looks = look_at(in_parts, live(jpegs, per_s=10))
    assert [len(look.found) for look in looks] == [1] * 17
    assert [look.view.faces[0].box for look in looks[:5]] == [looks[0].view.faces[0].box] * 5
    assert [look.is_still for look in looks] == [None, *[True] * 16]
    assert detector.looks == 4


def test_the_face_of_one_who_is_still_there_is_cut_out_of_the_frame_that_shows_it(
    detector: Counted, in_parts: MotionGate, clips: Path
) -> None:
    pipeline = Pipeline(detector, SETTINGS)
    first, second = live(noisy(read_clip(clips / "book.mkv")[0], 2), per_s=10)
    in_parts.look(first)
    look = in_parts.look(second)
    assert detector.looks == 1
    [face] = pipeline.cut(second, look, None)
    assert face.time == second.time
    assert face.extensions["box"] == ",".join(
        map(str, clip_box(look.found.boxes[0], look.view.width, look.view.height) or ())
    )


def test_somebody_who_leaves_and_somebody_who_comes_are_seen_at_once_in_parts(
    detector: Counted, in_parts: MotionGate, clips: Path
) -> None:
    empty = room(clips, 1280, 720)
    small = cv2.resize(read_clip(clips / "book.mkv")[0], (240, 180), interpolation=cv2.INTER_AREA)
    left, right = empty.copy(), empty.copy()
    left[300:480, 100:340] = small
    right[300:480, 900:1140] = small
    scenes = [*noisy(empty, 4), *noisy(left, 4), *noisy(right, 4), *noisy(empty, 4)]
    looks = look_at(in_parts, live(scenes, per_s=10))
    assert [len(look.found) for look in looks] == [0] * 4 + [1] * 8 + [0] * 4
    assert looks[7].found.boxes[0, 0] < 640 < looks[8].found.boxes[0, 0]
    assert detector.pixels < 3 * 626 * 352


def test_cameras_are_not_compared_with_each_other(detector: Counted, watch: MotionGate, clips: Path) -> None:
    jpegs = noisy(room(clips, 640, 360), 2)
    look_at(watch, live(jpegs, per_s=10, camera="front"))
    look_at(watch, live(jpegs, per_s=10, camera="yard"))
    assert detector.looks == 2


def test_a_camera_that_changes_its_size_or_turns_is_looked_at(
    detector: Counted, watch: MotionGate, clips: Path
) -> None:
    large, small = noisy(room(clips, 1280, 720), 1)[0], noisy(room(clips, 640, 360), 1)[0]
    look_at(watch, live([large, small, with_orientation(small, 3), large], per_s=10))
    assert detector.looks == 4


def test_what_only_opencv_decodes_is_compared_too(detector: Counted, watch: MotionGate) -> None:
    look_at(watch, live([odd_jpeg(640, 480)] * 4, per_s=10))
    assert detector.looks == 1


def test_what_is_no_picture_is_refused_and_does_not_disturb(
    detector: Counted, watch: MotionGate, clips: Path
) -> None:
    first, second = live(noisy(room(clips, 640, 360), 2), per_s=10)
    watch.look(first)
    for broken in (b"", b"no picture", first.jpeg[:500]):
        with pytest.raises(Refused):
            watch.look(replace(second, jpeg=broken))
    assert watch.look(second).is_still
    assert detector.looks == 1
