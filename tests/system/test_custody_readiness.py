"""`/readyz` of every service follows each fault that stops its work: within five seconds, and once.

Six kinds of faults, others with each seed; `python -m benchmarks.custody` has all of them.
"""

from pathlib import Path

import pytest

from tests.custody.sequence import play_alone
from tests.system.test_custody import a_seed

pytestmark = pytest.mark.long

KINDS = 6


@pytest.mark.timeout(420)
async def test_a_service_is_ready_when_its_work_is_not_stopped_and_only_then(
    tmp_path: Path, s3_program: str
) -> None:
    seed = a_seed()
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    verdicts = await play_alone(tmp_path, s3_program, seed=seed, most=KINDS)
    assert sum(verdict.is_stopped for verdict in verdicts) >= KINDS
    untrue = {verdict.fault for verdict in verdicts if not verdict.is_true}
    if untrue:  # once more: what is late for a busy machine's sake is not late twice
        print("\n".join(str(verdict) for verdict in verdicts if not verdict.is_true))  # noqa: T201
        again = tmp_path / "again"
        again.mkdir()
        verdicts = await play_alone(again, s3_program, seed=seed, only=untrue)
    late = [verdict for verdict in verdicts if not verdict.is_true]
    assert not late, "\n".join(map(str, late))
