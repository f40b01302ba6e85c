"""Capture before real drivers and devices, in a virtual machine: see `machine`; the tests are in `inside`."""

import pytest

from tests.camera.machine import INSIDE, run_tests
from tests.guests import Outcomes, claims

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests in the machine, which is started once."""
    return run_tests(tmp_path_factory.mktemp("share"))


@pytest.mark.parametrize("claim", claims(*sorted(INSIDE.glob("test_*.py"))))
def test_in_a_machine_with_cameras(outcomes: Outcomes, claim: str) -> None:
    outcomes.check(claim)
