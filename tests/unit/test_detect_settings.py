from pathlib import Path

import pytest

from services.common.runtime.settings import load
from services.detect.settings import DetectSettings
from services.detect.threads import default_count, usable_cores


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_DEVICE", "porch")


def test_shipped_settings_are_those_of_the_design() -> None:
    settings = load(DetectSettings, [])
    assert (settings.detector, settings.providers, settings.score_threshold) == ("auto", ("auto",), 0.7)
    assert (settings.detection_size_px, settings.crop_format, settings.frame_max_age_s) == (640, "jpeg", 2.0)


def test_each_frame_is_looked_at_where_each_face_is_kept_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FACEFERRY_KEEP", "visits")
    assert load(DetectSettings, []).usual_looks_per_s == 10
    monkeypatch.setenv("FACEFERRY_KEEP", "every")
    assert load(DetectSettings, []).usual_looks_per_s == 0
    monkeypatch.setenv("FACEFERRY_LOOKS_PER_S", "5")
    assert load(DetectSettings, []).usual_looks_per_s == 5
    monkeypatch.setenv("FACEFERRY_KEEP", "visits")
    monkeypatch.setenv("FACEFERRY_LOOKS_PER_S", "0")
    assert load(DetectSettings, []).usual_looks_per_s == 0


def test_providers_are_a_list_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEFERRY_PROVIDERS", "tensorrt, cuda,cpu")
    assert load(DetectSettings, []).providers == ("tensorrt", "cuda", "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROVIDERS", "gpu"),
        ("PROVIDERS", "auto,cpu"),
        ("DETECTOR", "dlib"),
        ("SCORE_THRESHOLD", "1.5"),
        ("DETECTION_SIZE_PX", "-1"),
        ("LOOKS_PER_S", "-1"),
        ("LOOKS_PER_S", "inf"),
        ("CROP_FORMAT", "gif"),
    ],
)
def test_bad_setting_names_itself(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"FACEFERRY_{name}", value)
    with pytest.raises(SystemExit) as exited:
        load(DetectSettings, [])
    assert exited.value.code == 2
    assert f"FACEFERRY_{name}" in capsys.readouterr().err


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (4, 3), (12, 9)])
def test_a_quarter_of_many_cores_is_left_to_others(cores: int, threads: int) -> None:
    assert default_count(cores) == threads


def test_container_limit_counts(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    assert usable_cores(limit) == 1
    limit.write_text("max 100000\n")
    assert usable_cores(limit) == usable_cores(tmp_path / "missing")
