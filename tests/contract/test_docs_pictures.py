"""What docs/pictures.md tells people to run, run on faces of real clips."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from services.common.storage.folder import FolderStore
from services.detect.codec import BgrImage, JpegImage
from services.detect.detectors import Detector, open_detector
from services.detect.pipeline import Pipeline
from services.detect.settings import DetectSettings
from services.store.admission import to_object
from tests.conftest import skip
from tests.detect_clips import MODELS, clip_jpegs, frame

PAGE = Path(__file__).parents[2] / "docs" / "pictures.md"
MOST_OFF = 4.0
"""Grey levels, in the mean: what encoding a crop once more does to it."""


@pytest.fixture(scope="module")
def yunet() -> Iterator[Detector]:
    if not MODELS.is_dir():
        skip("the YuNet model is not on this machine")
    with open_detector(DetectSettings(device="porch", detector="yunet", model_dir=MODELS)) as detector:
        yield detector


@pytest.fixture
def program() -> dict[str, Any]:
    """The page's Python, run."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)  # noqa: S102 - our own page
    return names


@pytest.mark.parametrize(
    "more",
    [{}, {"crop_margin": 1.0, "crop_format": "png", "max_crop_bytes": 16_384}],
    ids=["default", "halved"],
)
@pytest.mark.parametrize("clip", ["book.mkv", "head-pose-face-detection-female-and-male.mp4"])
async def test_a_stored_face_is_aligned_as_if_the_whole_frame_were_there(  # noqa: PLR0917 - fixtures
    clip: str, more: dict[str, Any], yunet: Detector, clips: Path, tmp_path: Path, program: dict[str, Any]
) -> None:
    settings = DetectSettings(device="porch", detector="yunet", model_dir=MODELS, **more)
    jpeg = clip_jpegs(clips / clip)[0]
    faces = Pipeline(yunet, settings).find_faces(frame(jpeg))
    assert faces
    with FolderStore(tmp_path) as store:
        await store.verify()
        for item in map(to_object, faces):
            await store.put(item)
            aligned = program["aligned"](tmp_path / item.key)
            expected = _aligned_in_frame(jpeg, item.metadata["landmarks"], program["ARCFACE"])
            middle = np.s_[16:-16, 16:-16]
            assert np.abs(aligned[middle].astype(float) - expected[middle]).mean() < MOST_OFF


def _aligned_in_frame(jpeg: bytes, landmarks: str, template: npt.NDArray[np.float32]) -> BgrImage:
    points = np.array(landmarks.split(","), np.float32).reshape(5, 2)
    to_template, _ = cv2.estimateAffinePartial2D(points, template, method=cv2.LMEDS)
    return np.asarray(cv2.warpAffine(JpegImage.open(jpeg).decode(), to_template, (112, 112)), np.uint8)
