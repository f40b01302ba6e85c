"""Real clips through all four services while any of them, a broker, the link or the bucket may fail."""

import os
from collections import Counter
from pathlib import Path

import pytest

from services.common.sealing.age import new_identity, open_sealed
from services.common.sealing.keys import read_identities
from tests.conftest import skip
from tests.custody.pipeline import play_clips
from tests.support import SHARED
from tests.system.test_custody import a_seed

pytestmark = pytest.mark.long

FAULTS = 22
SECONDS = 25


@pytest.fixture
def model_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    named = Path(os.environ.get("FACEFERRY_MODEL_DIR", SHARED / "models"))
    if not (named / "yunet_n_dynamic.onnx").exists():
        skip("no YuNet model: name its folder in FACEFERRY_MODEL_DIR")
    monkeypatch.setenv("FACEFERRY_MODEL_DIR", str(named))
    return named


@pytest.fixture
def cameras(clips: Path) -> dict[str, Path]:
    return {
        "front": clips / "book.mkv",
        "back": clips / "book.mkv",
        "yard": clips / "classroom.mp4",
        "hall": clips / "head-pose-face-detection-female-and-male.mp4",
    }


@pytest.mark.timeout(280)
@pytest.mark.usefixtures("model_dir")
async def test_the_same_faces_are_stored_as_in_an_undisturbed_run(
    tmp_path: Path, s3_program: str, cameras: dict[str, Path]
) -> None:
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    calm, storm = (_folder(tmp_path / name) for name in ("calm", "storm"))
    expected = await play_clips(calm, s3_program, cameras)
    assert len(expected.objects) > 400
    assert {Path(key).stem for key in expected.objects} == expected.answered
    found = await play_clips(storm, s3_program, cameras, seed=seed, faults=FAULTS, seconds=SECONDS)
    print(*(f"{event.at_s:.1f} s: {event.fault}" for event in found.events), sep="\n")  # noqa: T201
    print(f"{len(found.objects)} faces in {found.seconds:.0f} s, undisturbed {expected.seconds:.0f} s")  # noqa: T201
    assert found.objects == expected.objects
    assert {"capture killed", "detect killed"} <= {event.fault for event in found.events}
    assert not any(found.crashes.values()), found.crashes


@pytest.mark.timeout(280)
@pytest.mark.usefixtures("model_dir")
async def test_where_visits_are_kept_nobody_is_without_a_picture_whatever_fails(
    tmp_path: Path, s3_program: str, cameras: dict[str, Path]
) -> None:
    people = {"front": 1, "back": 1, "yard": 4, "hall": 2}
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    whole, calm, storm = (_folder(tmp_path / name) for name in ("whole", "calm", "storm"))
    every = await play_clips(whole, s3_program, cameras)
    expected = await play_clips(calm, s3_program, cameras, keep="visits")
    assert Counter(_camera(key) for key in expected.objects) == people
    found = await play_clips(
        storm, s3_program, cameras, seed=seed, faults=FAULTS, seconds=SECONDS, keep="visits"
    )
    print(*(f"{event.at_s:.1f} s: {event.fault}" for event in found.events), sep="\n")  # noqa: T201
    kept = Counter(_camera(key) for key in found.objects)
    print(f"{kept} of {people}")  # noqa: T201
    assert {Path(key).stem for key in found.objects} >= found.answered
    assert found.objects.items() <= every.objects.items()
    assert all(kept[camera] >= count for camera, count in people.items())
    assert not any(found.crashes.values()), found.crashes


@pytest.mark.timeout(280)
@pytest.mark.usefixtures("model_dir")
async def test_sealed_faces_are_stored_once_each_whatever_fails_and_hold_what_was_cut(
    tmp_path: Path, s3_program: str, cameras: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The private key is in this process alone. A face that is found again is sealed to the same bytes."""
    identity, recipient = new_identity()
    plain, storm = (_folder(tmp_path / name) for name in ("plain", "storm"))
    expected = await play_clips(plain, s3_program, cameras)
    monkeypatch.setenv("FACEFERRY_SEAL_TO", recipient)
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    found = await play_clips(storm, s3_program, cameras, seed=seed, faults=FAULTS, seconds=SECONDS)
    print(*(f"{event.at_s:.1f} s: {event.fault}" for event in found.events), sep="\n")  # noqa: T201
    assert {Path(key).suffix for key in found.objects} == {".age"}
    opened = [open_sealed(data, read_identities(identity)) for data in found.objects.values()]
    assert Counter(opened) == Counter(expected.objects.values())
    assert not any(found.crashes.values()), found.crashes


def _camera(key: str) -> str:
    return key.split("camera=")[1].split("/", maxsplit=1)[0]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
