"""Nobody is missed by looking less: the first trials of `benchmarks.recall`."""

from collections.abc import Iterator

import pytest

from services.detect.detectors import open_detector
from services.detect.settings import DetectSettings
from tests.conftest import skip
from tests.detect_clips import MODELS
from tests.rigs.recall.stage import Stage
from tests.support import SHARED

SETTINGS = DetectSettings(device="porch", detector="yunet", model_dir=MODELS, keep="visits")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if not MODELS.is_dir() or not (SHARED / "data" / "video").is_dir():
        skip("the YuNet model or the clips are not on this machine")
    with open_detector(SETTINGS) as detector:
        yield Stage(detector, SETTINGS, by_parts=True)


@pytest.mark.parametrize("number", range(10))
def test_who_is_found_by_a_look_at_each_frame_is_found_by_looking_less(number: int, stage: Stage) -> None:
    outcome = stage.play(number, seed=1)
    assert not outcome.is_missed, outcome
