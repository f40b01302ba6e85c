"""The detectors on real clips."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.common.faces import decode_face, encode_face
from services.common.images import inspect
from services.detect import pictures
from services.detect.boxes import Letterbox
from services.detect.detectors import Detector, open_detector
from services.detect.pictures import Jpeg, Picture
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from services.detect.yunet import YuNet
from tests.conftest import skip
from tests.detect_clips import FACES, MODELS, clip_jpegs, frame, overlaps, read_clip


def settings(**changes: Any) -> DetectSettings:
    return DetectSettings(device="porch", detector="yunet", model_dir=MODELS, **changes)


@pytest.fixture(scope="module")
def yunet() -> Iterator[Detector]:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    with open_detector(settings()) as detector:
        yield detector


def count(pipeline: Pipeline, jpegs: list[bytes]) -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda jpeg: len(pipeline.find_faces(frame(jpeg))), jpegs))


@pytest.mark.parametrize("clip", list(FACES))
def test_every_person_in_every_frame_and_nothing_else(clip: str, yunet: Detector, clips: Path) -> None:
    frames, faces = FACES[clip]
    counts = count(Pipeline(yunet, settings()), clip_jpegs(clips / clip))
    assert len(counts) == frames
    assert abs(sum(counts) - faces) <= faces * 0.01
    assert sum(number != faces / frames for number in counts) <= frames * 0.01


def matches(ours: Any, reference: Any) -> bool:
    """Whether each box of one has its own in the other, and nothing is left over."""
    if len(ours) != len(reference):
        return False
    nearest = [int(np.argmax(overlaps(box, reference))) for box in ours]
    best = [float(overlaps(box, reference).max()) for box in ours]
    return len(set(nearest)) == len(ours) and min(best, default=1.0) >= 0.9


def test_boxes_are_those_of_the_reference(yunet: Detector, clips: Path) -> None:
    model = MODELS / "yunet_n_640_640.onnx"
    if not model.is_file():
        skip("the reference model is not on this machine")
    reference = cv2.FaceDetectorYN.create(str(model), "", (640, 640), 0.7, 0.3, 5000)
    compared = boxes = 0
    for clip in FACES:
        for picture in read_clip(clips / clip)[::2]:
            scaled = _at_detection_size(picture)
            reference.setInputSize((scaled.shape[1], scaled.shape[0]))
            expected = reference.detect(scaled)[1]
            expected = np.zeros((0, 15), np.float32) if expected is None else expected
            found = yunet.detect(scaled)
            assert matches(found.boxes, expected[:, :4]), f"{clip}: {found.boxes} and {expected[:, :4]}"
            compared += 1
            boxes += len(found)
    assert compared >= 200
    assert boxes >= 200


def _at_detection_size(picture: Picture) -> Picture:
    box = Letterbox.fit(picture.shape[1], picture.shape[0], 640)
    return pictures.resize(picture, box.width, box.height)


def test_landmarks_and_scores_are_those_of_the_reference(yunet: Detector, clips: Path) -> None:
    model = MODELS / "yunet_n_640_640.onnx"
    if not model.is_file():
        skip("the reference model is not on this machine")
    picture = _at_detection_size(read_clip(clips / "book.mkv")[0])
    size = picture.shape[1], picture.shape[0]
    expected = cv2.FaceDetectorYN.create(str(model), "", size, 0.7, 0.3, 5000).detect(picture)[1]
    found = yunet.detect(picture)
    assert found.landmarks is not None
    assert found.scores is not None
    assert np.abs(found.landmarks.reshape(-1, 10) - expected[:, 4:14]).max() < 0.5
    assert np.abs(found.scores - expected[:, 14]).max() < 0.01


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (1000, 1000), (2560, 720)])
def test_boxes_come_back_in_source_pixels_at_every_aspect_ratio(
    size: tuple[int, int], yunet: Detector, clips: Path
) -> None:
    portrait = read_clip(clips / "book.mkv")[0]
    [seen] = Pipeline(yunet, settings()).find_faces(frame(pictures.encode_jpeg(portrait, 95)))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = size[0] - 640, size[1] - 480
    canvas[y:, x:] = portrait
    [moved] = Pipeline(yunet, settings()).find_faces(frame(pictures.encode_jpeg(canvas, 95)))
    box = np.array([moved.extensions["box"].split(",")], np.float32) - [x, y, 0, 0]
    expected = np.array(seen.extensions["box"].split(","), np.float32)
    assert overlaps(expected, box.astype(np.float32))[0] > 0.75
    assert moved.extensions["framesize"] == f"{size[0]}x{size[1]}"


def test_face_message_says_what_the_protocol_wants(yunet: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    [face] = Pipeline(yunet, settings()).find_faces(frame(jpeg))
    assert decode_face(encode_face(face)) == face
    assert set(face.extensions) == {
        *("box", "crop", "framesize", "score", "landmarks", "sharpness", "detector")
    }
    x, y, width, height = map(int, face.extensions["box"].split(","))
    landmarks = np.array(face.extensions["landmarks"].split(","), float).reshape(5, 2)
    assert (landmarks > [x, y]).all()
    assert (landmarks < [x + width, y + height]).all()
    crop = inspect(face.image)
    assert (crop.width, crop.height) == tuple(map(int, face.extensions["crop"].split(",")))[2:]
    assert crop.width == pytest.approx(2 * width, abs=2)
    assert crop.height == pytest.approx(2 * height, abs=2)
    assert face.extensions["detector"] == "yunet_n"


def test_clock_that_is_not_synchronised_is_mentioned(yunet: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    one = frame(jpeg)
    unsure = type(one)(one.source, 0, one.time, jpeg, paced=True, is_clock_synchronised=False)
    [face] = Pipeline(yunet, settings()).find_faces(unsure)
    assert face.extensions["clock"] == "unsynchronised"


def test_same_frames_give_the_same_faces_on_any_number_of_threads(yunet: Detector, clips: Path) -> None:
    pipeline = Pipeline(yunet, settings())
    frames = [frame(jpeg, number) for number, jpeg in enumerate(clip_jpegs(clips / "classroom.mp4")[:16])]
    alone = [pipeline.find_faces(each) for each in frames]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(pipeline.find_faces, frames)) == alone


@pytest.mark.parametrize(
    ("changes", "faces"),
    [
        ({"min_face_px": 60}, 0),
        ({"max_faces": 1}, 1),
        ({"detection_size_px": 0}, 4),
        ({"score_threshold": 1.0}, 0),
    ],
)
def test_settings_choose_among_faces(changes: dict[str, Any], faces: int, clips: Path) -> None:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    chosen = settings(**changes)
    with open_detector(chosen) as detector:
        assert count(Pipeline(detector, chosen), clip_jpegs(clips / "classroom.mp4")[:1]) == [faces]


def test_png_crop_has_the_pixels_of_the_frame(yunet: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    [face] = Pipeline(yunet, settings(crop_format="png", crop_margin=0)).find_faces(frame(jpeg))
    x, y, width, height = map(int, face.extensions["box"].split(","))
    crop = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
    assert crop is not None
    assert face.content_type == "image/png"
    assert np.array_equal(crop, Jpeg.open(jpeg).decode()[y : y + height, x : x + width])


def test_crop_that_brokers_would_refuse_is_made_smaller(yunet: Detector, clips: Path) -> None:
    picture = pictures.resize(read_clip(clips / "book.mkv")[0], 3840, 2880)
    chosen = settings(crop_format="png", max_crop_bytes=16_384)
    [face] = Pipeline(yunet, chosen).find_faces(frame(pictures.encode_jpeg(picture, 90)))
    assert len(face.image) <= 16_384


def test_smaller_model_of_the_family_works_too(clips: Path) -> None:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    for model in ("yunet_s", str(MODELS / "yunet_s_dynamic.onnx")):
        with open_detector(settings(model=model)) as detector:
            assert isinstance(detector, YuNet)
            assert count(Pipeline(detector, settings()), clip_jpegs(clips / "book.mkv")[:3]) == [1, 1, 1]


def test_haar_finds_a_frontal_face_without_a_model(clips: Path) -> None:
    chosen = DetectSettings(device="porch", detector="haar")
    with open_detector(chosen) as detector:
        pipeline = Pipeline(detector, chosen)
        counts = count(pipeline, clip_jpegs(clips / "book.mkv"))
        found = next(
            face for each in clip_jpegs(clips / "book.mkv") for face in pipeline.find_faces(frame(each))
        )
    assert sum(counts) >= 25
    assert found.extensions["detector"] == "haar"
    assert not {"score", "landmarks"} & set(found.extensions)
    assert decode_face(encode_face(found)) == found
