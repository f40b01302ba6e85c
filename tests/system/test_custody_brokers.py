"""The custody proof with three brokers in the cloud that know nothing of each other: the long form.

`tests/cluster/test_custody_cluster.py` is the same with a cluster, `test_brokers_weather` a short one.
"""

from pathlib import Path

import pytest

from tests.custody.clouds import strangers
from tests.custody.report import Report
from tests.custody.run import run
from tests.system.test_custody import a_seed

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1_500)]

FACES, FAULTS = 5_000, 60
MOST_SENT_AGAIN = 0.05
OF_BROKERS = {
    "one broker killed",
    "two brokers killed",
    "one broker stopped",
    "one broker cut off",
    "one broker half-open",
}


def assert_perfect(report: Report) -> None:
    print(report.as_text())  # noqa: T201 - shown when the test fails
    assert report.is_perfect
    assert report.faces == FACES
    assert report.faults.total() >= FAULTS
    assert report.control_missed == ()
    assert not any(report.crashes.values())


async def test_each_face_is_stored_once_and_few_are_sent_twice_whatever_one_fault_does(
    tmp_path: Path, s3_program: str
) -> None:
    seed = a_seed()
    report = await run(
        tmp_path,
        s3_program,
        seed,
        faces=FACES,
        faults=FAULTS,
        seconds=0,
        make_clouds=strangers(3),
        alone=True,
    )
    assert_perfect(report)
    assert report.faults.keys() >= OF_BROKERS
    assert report.sent_again <= MOST_SENT_AGAIN * FACES


async def test_each_face_is_stored_once_through_a_storm_of_faults(tmp_path: Path, s3_program: str) -> None:
    seed = a_seed()
    report = await run(
        tmp_path, s3_program, seed, faces=FACES, faults=FAULTS, seconds=120, make_clouds=strangers(3)
    )
    assert_perfect(report)
