"""The custody proof with a real cluster in the cloud, which takes a quarter of an hour; see `artemis`."""

import os
from pathlib import Path

import pytest

from tests.cluster.clouds import cluster
from tests.custody.run import run
from tests.system.test_custody import a_seed

FACES = int(os.environ.get("FACEFERRY_TEST_CLUSTER_FACES", "5000"))
FAULTS = int(os.environ.get("FACEFERRY_TEST_CLUSTER_FAULTS", "60"))
MOST_SENT_AGAIN = 0.1
"""Of strangers it is half of that. Nodes of a cluster that come back join it for seconds, in which what they
tell each other of subscriptions is late, and close connections meanwhile."""


@pytest.mark.proof
@pytest.mark.timeout(3_000)
async def test_each_face_is_stored_once_and_few_are_sent_twice_whatever_one_fault_does(
    tmp_path: Path, s3_program: str
) -> None:
    report = await run(
        tmp_path,
        s3_program,
        a_seed(),
        faces=FACES,
        faults=FAULTS,
        seconds=0,
        make_clouds=cluster(),
        alone=True,
    )
    print(report.as_text())  # noqa: T201 - shown when the test fails
    assert report.is_perfect
    assert report.faces == FACES
    assert report.faults.total() >= FAULTS
    assert "nodes cut off from each other" in report.faults
    assert report.control_missed == ()
    assert not any(report.crashes.values())
    assert report.sent_again <= MOST_SENT_AGAIN * FACES
