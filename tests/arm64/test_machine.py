"""The project on an arm64 machine, emulated: `./scripts/up` with its installing, and some of the tests."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.arm64.machine import CLIP, LEFT_OUT, Visit, chosen_files, visit_tests, visit_up
from tests.guests import Outcomes, claims

pytestmark = pytest.mark.timeout(8000)

MEASURED = frozenset({"sharpness"})
"""Of what is known of a face: what is computed with floats in whatever order suits a processor."""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    """The machine that a clone of the project came to."""
    return visit_up(tmp_path_factory.mktemp("up"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests that were run in the machine."""
    return visit_tests(tmp_path_factory.mktemp("tests"))


def known(folder: Path) -> dict[str, dict[str, str]]:
    """Return what is known of each face in a folder, by key."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text())["metadata"]
        for path in sorted(folder.glob("dt=*/**/*.json"))
    }


def images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("dt=*/**/*.jpg"))}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """The folder of faces that this machine makes of the same clip."""
    folder = tmp_path_factory.mktemp("ours")
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(folder / "state"),
        "FACEFERRY_DEVICE": "edge",
        "FACEFERRY_KEEP": "every",
    }
    command = [sys.executable, "-m", "services.cli", "up", "--shared", "no", "--once", "--timeout", "600"]
    given = ["--source", str(clips / CLIP), "--store", f"file://{folder / 'faces'}"]
    subprocess.run([*command, *given], env=environment, check=True, capture_output=True, timeout=1800)
    return folder / "faces"


@pytest.fixture(scope="module")
def theirs(newcomer: Visit) -> Path:
    """The folder of faces that the arm64 machine made."""
    assert newcomer.status == 0, (newcomer.share / "up.log").read_text()[-3000:]
    with tarfile.open(newcomer.share / "faces.tar") as archive:
        archive.extractall(newcomer.share, filter="data")
    return newcomer.share / "faces"


def test_up_installs_itself_and_stores_every_face(newcomer: Visit, theirs: Path) -> None:
    summary = json.loads((newcomer.share / "up.json").read_text().splitlines()[-1])
    assert summary["frames"] == 41
    assert summary["stored"] == summary["faces"] == len(images(theirs)) > 120
    assert summary["detector"] == "yunet"


def test_faces_are_the_same_bytes_under_the_same_names_as_on_this_machine(ours: Path, theirs: Path) -> None:
    assert images(theirs) == images(ours)


def test_what_is_known_of_them_is_the_same_but_for_what_is_measured(ours: Path, theirs: Path) -> None:
    here, there = known(ours), known(theirs)
    assert here.keys() == there.keys()
    differing = {
        name: (here[key][name], there[key].get(name))
        for key in here
        for name in here[key]
        if here[key][name] != there[key].get(name)
    }
    assert set(differing) <= MEASURED, differing
    apart = [abs(int(here[key]["sharpness"]) - int(there[key]["sharpness"])) for key in here]
    assert max(apart) <= 1


def test_a_slow_start_is_no_trouble(newcomer: Visit, theirs: Path) -> None:  # noqa: ARG001
    assert "mqtt.link_down" not in (newcomer.share / "up.log").read_text()


@pytest.mark.parametrize("claim", [claim for claim in claims(*chosen_files()) if claim not in LEFT_OUT])
def test_in_the_machine(outcomes: Outcomes, claim: str) -> None:
    outcomes.check(claim)
