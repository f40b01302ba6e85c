"""A region that is masked never yields a face: with the real detectors, on real frames."""

import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.common.masking import Hidden, hidden
from services.common.wire.faces import Face
from services.common.wire.frames import Frame
from services.common.wire.scope import WHOLE_SIDE, Mask, Scope, read_mask
from services.detect.boxes import Detections
from services.detect.codec import BgrImage
from services.detect.decoder import Decoder
from services.detect.detectors import Detector, open_detector
from services.detect.motion_gate import MotionGate
from services.detect.pipeline import Pipeline
from services.detect.regions_of_interest import unmasked
from services.detect.settings import DetectSettings
from tests.conftest import skip
from tests.detect_clips import MODELS, clip_jpegs, frame

MASKS = int(os.environ.get("FACEFERRY_TEST_MASKS", "1000"))
CLIPS = (
    "classroom.mp4",
    "face-demographics-walking-and-pause.mp4",
    "head-pose-face-detection-female-and-male.mp4",
)


def settings(**changes: object) -> DetectSettings:
    given = {"device": "porch", "model_dir": MODELS, "crop_format": "png", "keep": "every"}
    return DetectSettings.model_validate(given | changes)


@pytest.fixture(scope="module")
def yunet() -> Iterator[Detector]:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    with open_detector(settings(detector="yunet")) as detector:
        yield detector


@pytest.fixture(scope="module")
def frames(clips: Path) -> list[Frame]:
    return [
        frame(jpeg, number)
        for number, jpeg in enumerate(some for clip in CLIPS for some in clip_jpegs(clips / clip))
    ]


def random_mask(rng: random.Random) -> Mask:
    """One to four polygons of three to seven corners, small ones and large ones."""
    while True:
        with contextlib.suppress(ValueError):  # one without an area is none
            return read_mask(";".join(_polygon(rng) for _ in range(rng.randint(1, 4))))


def _polygon(rng: random.Random) -> str:
    middle, reach = (rng.random(), rng.random()), rng.uniform(0.05, 0.6)
    corners = [
        [min(1.0, max(0.0, one + rng.uniform(-reach, reach))) for one in middle]
        for _ in range(rng.randint(3, 7))
    ]
    return ",".join(f"{number:.4f}" for corner in corners for number in corner)


def box_of(face: Face) -> tuple[int, int, int, int]:
    x, y, width, height = map(int, face.extensions["box"].split(","))
    return x, y, width, height


def crop_of(face: Face) -> BgrImage:
    decoded = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


def dark_part(face: Face, mask: Mask, margin: float) -> tuple[Hidden, BgrImage]:
    """What is hidden of a face's crop, and the crop."""
    width, height = map(int, face.extensions["framesize"].split("x"))
    dark, crop = hidden(mask, width, height), crop_of(face)
    x, y, wide, high = box_of(face)
    left, top = max(0, round(x - margin * wide)), max(0, round(y - margin * high))
    return dark[top : top + crop.shape[0], left : left + crop.shape[1]], crop


def check(pipeline: Pipeline, one: Frame, mask: Mask) -> int:
    """Check a masked frame; return how many faces it has left."""
    faces = pipeline.find_faces(replace(one, scope=Scope(mask)))
    for face in faces:
        width, height = map(int, face.extensions["framesize"].split("x"))
        x, y, wide, high = box_of(face)
        dark = hidden(mask, width, height)[y : y + high, x : x + wide]
        # The middle may lie half a pixel of the detector's picture elsewhere than in the frame's.
        assert dark.mean() <= 0.55
        hidden_part, crop = dark_part(face, mask, 0.0)
        assert not crop[: hidden_part.shape[0], : hidden_part.shape[1]][hidden_part].any()
    return len(faces)


@pytest.mark.timeout(600)
def test_of_random_masks_on_real_frames_none_yields_a_face(yunet: Detector, frames: list[Frame]) -> None:
    pipeline = Pipeline(yunet, settings(crop_margin=0.0))
    rng = random.Random(7)
    cases = [(rng.choice(frames), random_mask(rng)) for _ in range(MASKS)]
    with ThreadPoolExecutor(2) as pool:
        left = list(pool.map(lambda case: check(pipeline, *case), cases))
    all_faces = sum(len(pipeline.find_faces(one)) for one in frames[::10]) / len(frames[::10]) * MASKS
    assert 0.1 * all_faces < sum(left) < 0.9 * all_faces  # some are hidden, some are not


def test_a_face_under_a_mask_is_not_found_and_the_others_are(yunet: Detector, frames: list[Frame]) -> None:
    pipeline = Pipeline(yunet, settings())
    whole = pipeline.find_faces(frames[0])
    width, height = map(int, whole[0].extensions["framesize"].split("x"))
    for gone in whole:
        x, y, wide, high = box_of(gone)
        corners = ((x, y), (x + wide, y), (x + wide, y + high), (x, y + high))
        mask = (
            tuple(
                (min(WHOLE_SIDE, at_x * WHOLE_SIDE // width), min(WHOLE_SIDE, at_y * WHOLE_SIDE // height))
                for at_x, at_y in corners
            ),
        )
        left = pipeline.find_faces(replace(frames[0], scope=Scope(mask)))
        assert len(left) == len(whole) - 1


async def test_heavy_pictures_are_masked_in_the_process_that_decodes_them(
    yunet: Detector, frames: list[Frame]
) -> None:
    mask = read_mask("0,0,0.5,0,0.5,1,0,1")
    async with Decoder(30.0).running() as decoder:
        seen = await decoder.look(frames[0].jpeg, 640, Scope(mask))
        dark = hidden(mask, seen.letterbox.source_width, seen.letterbox.source_height)
        assert not seen.scaled[:, : seen.letterbox.width // 2 - 2].any()
        style = Pipeline(yunet, settings()).style(None)
        boxes = np.array([[0, 0, dark.shape[1] // 2, dark.shape[0]]], np.float32)
        (cut,) = await decoder.cut(frames[0].jpeg, Detections(boxes), style._replace(margin=0.0), Scope(mask))
        assert cut is not None
        picture = np.asarray(cv2.imdecode(np.frombuffer(cut.image, np.uint8), cv2.IMREAD_COLOR))
        assert not picture.any()


def test_a_detector_that_guesses_is_not_believed() -> None:
    """A thousand random boxes and masks: none is left whose middle or greater part is hidden."""
    rng = random.Random(11)
    is_left = []
    for _ in range(1_000):
        mask = random_mask(rng)
        sides = [rng.uniform(4, 60) for _ in range(2)]
        corner = [rng.uniform(-10, 150), rng.uniform(-10, 80)]
        found = Detections(np.array([[*corner, *sides]], np.float32), np.ones(1, np.float32))
        left = unmasked(found, mask, 160, 90)
        dark = hidden(mask, 160, 90)
        x0, y0 = max(0, round(corner[0])), max(0, round(corner[1]))
        x1, y1 = min(160, round(corner[0] + sides[0])), min(90, round(corner[1] + sides[1]))
        if x1 <= x0 or y1 <= y0:
            continue
        part = dark[y0:y1, x0:x1]
        if part.mean() > 0.5 or part[(y1 - y0) // 2, (x1 - x0) // 2]:
            is_left.append(False)
            assert not len(left)
        elif not part.any():
            is_left.append(True)
            assert len(left)
    assert 100 < sum(is_left) < len(is_left) - 100


def test_the_least_face_is_the_cameras_own(yunet: Detector, frames: list[Frame]) -> None:
    pipeline = Pipeline(yunet, settings())
    sides = [min(box_of(face)[2:]) for face in pipeline.find_faces(frames[0])]
    least = max(sides)
    left = pipeline.find_faces(replace(frames[0], scope=Scope(min_face_px=least + 2)))
    assert len(left) < len(sides)
    assert not pipeline.find_faces(replace(frames[0], scope=Scope(min_face_px=5_000)))


def test_what_moves_under_a_mask_is_no_reason_for_a_look_and_yields_nobody(
    yunet: Detector, frames: list[Frame]
) -> None:
    """Live, where parts that change are looked at: all of it is hidden, and whoever is there moves."""
    watch = MotionGate(Pipeline(yunet, settings()), 4, by_parts=True)
    everything = Scope(read_mask("0,0,1,0,1,1,0,1"))
    left = read_mask("0,0,0.5,0,0.5,1,0,1")
    for one in frames[:20]:
        live = replace(one, paced=False)
        assert not len(watch.look(replace(live, scope=everything)).found)
        seen = watch.look(replace(live, scope=Scope(left)))
        middles = seen.found.boxes[:, 0] + seen.found.boxes[:, 2] / 2
        assert (middles > seen.view.width / 2 - 2).all()
