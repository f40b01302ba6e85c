"""The detectors on real clips."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.common.images.structure import inspect
from services.common.wire.faces import decode_face, encode_face
from services.detect import codec
from services.detect.boxes import Letterbox
from services.detect.codec import BgrImage, JpegImage
from services.detect.detectors import Detector, open_detector
from services.detect.network import Network
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from tests.conftest import skip
from tests.detect_clips import FACES, MODELS, clip_jpegs, frame, need_model, overlaps, read_clip


def settings(**changes: Any) -> DetectSettings:
    return DetectSettings.model_validate(
        {"device": "porch", "detector": "yunet", "model_dir": MODELS, **changes}
    )


@pytest.fixture(scope="module")
def yunet() -> Iterator[Detector]:
    need_model("yunet")
    with open_detector(settings()) as detector:
        yield detector


@pytest.fixture(scope="module")
def centerface() -> Iterator[Detector]:
    need_model("centerface")
    with open_detector(settings(detector="centerface")) as detector:
        yield detector


@pytest.fixture(scope="module", params=["yunet", "centerface"])
def network(request: pytest.FixtureRequest) -> Detector:
    detector: Detector = request.getfixturevalue(request.param)
    return detector


def count(pipeline: Pipeline, jpegs: list[bytes]) -> list[int]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda jpeg: len(pipeline.find_faces(frame(jpeg))), jpegs))


@pytest.mark.parametrize("clip", list(FACES))
def test_every_person_in_every_frame_and_nothing_else(clip: str, network: Detector, clips: Path) -> None:
    step = 1 if network.kind == "yunet" else 3  # it takes four times as long
    frames, faces = FACES[clip]
    counts = count(Pipeline(network, settings()), clip_jpegs(clips / clip)[::step])
    assert len(counts) == math.ceil(frames / step)
    expected = faces // frames * len(counts)
    assert abs(sum(counts) - expected) <= expected * 0.01
    assert sum(number != faces // frames for number in counts) <= len(counts) * 0.01


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


def _at_detection_size(picture: BgrImage) -> BgrImage:
    box = Letterbox.fit(picture.shape[1], picture.shape[0], 640)
    return codec.resize(picture, box.width, box.height)


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
    size: tuple[int, int], network: Detector, clips: Path
) -> None:
    portrait = read_clip(clips / "book.mkv")[0]
    [seen] = Pipeline(network, settings()).find_faces(frame(codec.encode_jpeg(portrait, 95)))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = size[0] - 640, size[1] - 480
    canvas[y:, x:] = portrait
    [moved] = Pipeline(network, settings()).find_faces(frame(codec.encode_jpeg(canvas, 95)))
    box = np.array([moved.extensions["box"].split(",")], np.float32) - [x, y, 0, 0]
    expected = np.array(seen.extensions["box"].split(","), np.float32)
    assert overlaps(expected, box.astype(np.float32))[0] > 0.7
    assert moved.extensions["framesize"] == f"{size[0]}x{size[1]}"


def test_face_message_says_what_the_protocol_wants(network: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    [face] = Pipeline(network, settings()).find_faces(frame(jpeg))
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
    assert face.extensions["detector"] == network.name


def test_clock_that_is_not_synchronised_is_mentioned(yunet: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    one = frame(jpeg)
    unsure = type(one)(one.source, 0, one.time, jpeg, paced=True, is_clock_synchronised=False)
    [face] = Pipeline(yunet, settings()).find_faces(unsure)
    assert face.extensions["clock"] == "unsynchronised"


def test_same_frames_give_the_same_faces_on_any_number_of_threads(network: Detector, clips: Path) -> None:
    pipeline = Pipeline(network, settings())
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
@pytest.mark.parametrize("name", ["yunet", "centerface"])
def test_settings_choose_among_faces(name: str, changes: dict[str, Any], faces: int, clips: Path) -> None:
    need_model(name)
    chosen = settings(detector=name, **changes)
    with open_detector(chosen) as detector:
        assert count(Pipeline(detector, chosen), clip_jpegs(clips / "classroom.mp4")[:1]) == [faces]


def test_png_crop_has_the_pixels_of_the_frame(yunet: Detector, clips: Path) -> None:
    jpeg = clip_jpegs(clips / "book.mkv")[0]
    [face] = Pipeline(yunet, settings(crop_format="png", crop_margin=0)).find_faces(frame(jpeg))
    x, y, width, height = map(int, face.extensions["box"].split(","))
    crop = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
    assert crop is not None
    assert face.content_type == "image/png"
    assert np.array_equal(crop, JpegImage.open(jpeg).decode()[y : y + height, x : x + width])


def test_crop_that_brokers_would_refuse_is_made_smaller(yunet: Detector, clips: Path) -> None:
    picture = codec.resize(read_clip(clips / "book.mkv")[0], 3840, 2880)
    chosen = settings(crop_format="png", max_crop_bytes=16_384)
    [face] = Pipeline(yunet, chosen).find_faces(frame(codec.encode_jpeg(picture, 90)))
    assert len(face.image) <= 16_384


def test_smaller_model_of_the_family_works_too(clips: Path) -> None:
    need_model("yunet")
    for model in ("yunet_s", str(MODELS / "yunet_s_dynamic.onnx")):
        with open_detector(settings(model=model)) as detector:
            assert isinstance(detector, Network)
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


def test_centerface_puts_boxes_and_landmarks_where_yunet_does(
    yunet: Detector, centerface: Detector, clips: Path
) -> None:
    for clip in FACES:
        for picture in read_clip(clips / clip)[::20]:
            scaled = _at_detection_size(picture)
            expected, found = yunet.detect(scaled), centerface.detect(scaled)
            assert expected.landmarks is not None
            assert found.landmarks is not None
            for box, points in zip(found.boxes, found.landmarks, strict=True):
                like = int(np.argmax(overlaps(box, expected.boxes)))
                assert overlaps(box, expected.boxes)[like] > 0.5
                assert np.abs(points - expected.landmarks[like]).mean() < 0.15 * box[2]


STREET = [clip for clip, (_frames, faces) in FACES.items() if faces and not clip.startswith("book")]


def streets(clips: Path, count: int) -> list[bytes]:
    """Scenes of many people at a distance: sixteen frames of real clips in one of 1920x1080."""
    frames = [codec.resize(each, 480, 270) for clip in STREET for each in read_clip(clips / clip)]
    scenes = []
    for number in range(count):
        tiles = [frames[(12 * number + 7 * place) % len(frames)] for place in range(16)]
        rows = [np.hstack(tiles[start : start + 4]) for start in range(0, 16, 4)]
        scenes.append(codec.encode_jpeg(np.vstack(rows), 90))
    return scenes


def test_on_a_street_centerface_finds_ten_times_as_many_as_haar_and_about_as_many_as_yunet(
    yunet: Detector, centerface: Detector, clips: Path
) -> None:
    scenes = streets(clips, 9)
    with open_detector(DetectSettings(device="porch", detector="haar")) as haar:
        found = {
            detector.name: sum(count(Pipeline(detector, settings()), scenes))
            for detector in (yunet, centerface, haar)
        }
    assert found["centerface"] >= 10 * found["haar"], found
    assert found["centerface"] == pytest.approx(found["yunet_n"], rel=0.1), found
