"""The soak in its short form: that it runs and reads sane numbers; what they mean, an hour says."""

import argparse
from pathlib import Path

import pytest

from tests.rigs.report.findings import Part
from tests.rigs.soak import verdict
from tests.rigs.soak.soaking import SERVICES

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def part(clips: Path) -> Part:
    """The result of one minute with everything that an hour has."""
    assert clips.is_dir()
    parser = argparse.ArgumentParser()
    verdict.add_options(parser)
    short = "--minutes 1 --warm-minutes 0.25 --sample-every-s 1 --restart-every-s 20 --camera-dies-after-s 5"
    return verdict.measure(parser.parse_args(short.split()))


@pytest.mark.timeout(400)
def test_a_short_soak_reads_numbers_of_every_service_in_every_window(part: Part) -> None:
    memory, own, descriptors, threads, happened = part.tables
    for table, least, most in ((memory, 20, 400), (own, 10, 400), (descriptors, 5, 200), (threads, 1, 100)):
        assert [row[0] for row in table.rows] == list(SERVICES)
        for row in table.rows:
            assert all(isinstance(number, float) and least <= number <= most for number in row[1:]), row
    counts = {str(row[0]): int(row[1] or 0) for row in happened.rows}
    assert counts["restarts of a broker"] >= 2 * 2
    assert counts["pages opened"] > 20
    assert counts["live pictures watched"] > 5
    assert counts["starts of a camera's program"] > 3


@pytest.mark.timeout(400)
def test_faces_are_stored_until_its_end(part: Part) -> None:
    (faces,) = [figure for figure in part.figures if figure.name == "faces stored in the last sixth"]
    assert faces.is_met
