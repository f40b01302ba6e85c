"""Which detector is taken, and why."""

from pathlib import Path

import pytest

from services.common.errors import SetupError
from services.detect import models
from services.detect.detector_choice import Forecast, candidates, forecast
from services.detect.models import MODELS, FoundModel, Model


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the models that are on this machine."""
    names: set[str] = set()

    def find(model: Model, _folders: object) -> FoundModel:
        is_here = model.name in names
        return (
            FoundModel(model, "ok", Path("/models") / model.file_name)
            if is_here
            else FoundModel(model, "missing")
        )

    monkeypatch.setattr(models, "find", find)
    return names


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        ("auto", ("yunet_s", "centerface")),
        ("yunet", ("yunet_s",)),
        ("centerface", ("centerface",)),
        ("haar", ()),
    ],
)
def test_the_best_is_tried_first(detector: str, expected: tuple[str, ...]) -> None:
    assert candidates(detector, "yunet_s") == expected


def test_a_file_is_one_of_yunets() -> None:
    assert candidates("auto", "/my/net.onnx") == ("/my/net.onnx", "centerface")


def test_centerface_is_not_chosen_among_yunets_models() -> None:
    for detector in ("auto", "yunet"):
        with pytest.raises(SetupError, match=r"FACEFERRY_MODEL.*FACEFERRY_DETECTOR=centerface"):
            candidates(detector, "centerface")


HERE = "its model is /models/"
NOT_HERE = "its model is not here: the next start tries to download it"
IN_PLACE = ", and yunet_n's is not here: the next start tries to download it"
ONLY_HAAR = "; failing that centerface, by pip, and failing that haar"


@pytest.mark.parametrize(
    ("detector", "there", "expected"),
    [
        ("auto", {"yunet_n", "centerface"}, Forecast("yunet_n", f"{HERE}yunet_n_dynamic.onnx", True)),
        ("auto", {"yunet_n"}, Forecast("yunet_n", f"{HERE}yunet_n_dynamic.onnx", True)),
        ("auto", {"centerface"}, Forecast("centerface", f"{HERE}centerface.onnx{IN_PLACE}", False)),
        ("auto", set(), Forecast("yunet_n", f"{NOT_HERE}{ONLY_HAAR}", False)),
        ("yunet", {"centerface"}, Forecast("yunet_n", f"{NOT_HERE}, and fails if that fails", False)),
        ("centerface", {"centerface"}, Forecast("centerface", f"{HERE}centerface.onnx", True)),
        ("haar", {"yunet_n"}, Forecast("haar", "FACEFERRY_DETECTOR asks for it; it needs no model", True)),
    ],
)
def test_what_the_next_start_takes_is_said_with_its_reason(
    detector: str, there: set[str], expected: Forecast, here: set[str]
) -> None:
    here |= there
    assert forecast({"FACEFERRY_DETECTOR": detector}) == expected


def test_auto_is_what_is_meant_where_nothing_is_said(here: set[str]) -> None:
    here.add("yunet_n")
    assert forecast({}).detector == forecast({"FACEFERRY_DETECTOR": ""}).detector == "yunet_n"
    assert set(MODELS) >= {"yunet_n", "centerface"}


def test_a_detector_that_there_is_not_is_named() -> None:
    with pytest.raises(
        SetupError, match="FACEFERRY_DETECTOR: 'yolo' is none of auto, yunet, centerface, haar"
    ):
        forecast({"FACEFERRY_DETECTOR": "yolo"})
