"""Not one face lost, not one stored twice, whatever is killed, cut or full: the short form.

`python -m benchmarks.custody` is the long one. A seed may be given in FACEFERRY_TEST_SEED; the timing of
processes is not in it.
"""

import os
import random
from pathlib import Path

import pytest

from services.common.sealing.age import new_identity
from tests.conftest import skip
from tests.custody.faults import FULL, kinds
from tests.custody.rig import rig
from tests.custody.run import run

FACES = 2_000
LEAST_FAULTS = 40
SECONDS = 70
DISK = {"spool's disk full", FULL}
ALWAYS = DISK | {
    "rows of the spool damaged",
    "spool's file damaged",
    "lock deleted, a second forward beside",
    "lock deleted, a second forward instead",
    "a wrong device name",
    "cloud broker with a small packet limit",
}


def a_seed() -> int:
    """The seed asked for, or any."""
    return int(os.environ.get("FACEFERRY_TEST_SEED", random.SystemRandom().randrange(1_000_000)))


@pytest.mark.long
@pytest.mark.timeout(420)
@pytest.mark.parametrize("keep", ["every", "visits"])
async def test_every_face_is_stored_once_whatever_is_killed_cut_or_full(
    tmp_path: Path, s3_program: str, keep: str
) -> None:
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    faults = LEAST_FAULTS + 5
    report = await run(tmp_path, s3_program, seed, faces=FACES, faults=faults, seconds=SECONDS, keep=keep)
    print(report.as_text())  # noqa: T201
    assert report.is_perfect
    assert report.faces == FACES
    assert report.faults.total() >= LEAST_FAULTS
    assert report.control_missed == ()
    assert ALWAYS - (DISK if "disk" in report.missing else set()) <= report.faults.keys()
    assert report.requeues > 0
    assert not [note for note in report.notes if "requeue" in note]
    assert report.resent_local > 0
    assert report.resent_uplink > 0
    assert not any(report.crashes.values())
    if keep == "visits":
        # Asked before each face, forward has answered most times, and was away for some.
        assert FACES / 2 < report.answered < report.asked == FACES


@pytest.mark.proof  # the short form, of the whole pipeline, is in test_custody_pipeline
@pytest.mark.timeout(600)
async def test_every_sealed_face_is_stored_once_whatever_happens_and_nobody_there_can_open_it(
    tmp_path: Path, s3_program: str
) -> None:
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    _nobodys, public = new_identity()
    report = await run(tmp_path, s3_program, seed, faces=1_000, faults=20, seconds=35, sealed_to=public)
    print(report.as_text())  # noqa: T201
    assert report.is_perfect
    assert report.faces == 1_000
    assert report.control_missed == ()
    assert not any(report.crashes.values())


@pytest.mark.long
async def test_this_machine_can_make_every_kind_of_fault(tmp_path: Path, s3_program: str) -> None:
    async with rig(tmp_path, s3_program) as stage:
        missing = dict(stage.missing)
        without = [fault.name for fault in kinds(stage) if fault.needs in missing]
    if missing:
        skip(f"{', '.join(without)}: {'; '.join(missing.values())}")
