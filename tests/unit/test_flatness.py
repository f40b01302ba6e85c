import argparse
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rigs.soak import verdict
from tests.rigs.soak.flatness import LEAST_COUNTED, MOST_RISE, WINDOWS, Sample, course
from tests.rigs.soak.soaking import SERVICES, Soaked

if TYPE_CHECKING:
    from tests.rigs.report.findings import Figure

WARM_S, END_S, EVERY_S = 600.0, 3_600.0, 5.0
TIMES = [step * EVERY_S for step in range(int(END_S / EVERY_S))]


def courses(of: list[float]) -> tuple[float, float]:
    """Return the rise and the highest window of numbers sampled at `TIMES`."""
    found = course(list(zip(TIMES, of, strict=True)), WARM_S, END_S)
    return found.rise, found.highest


def test_what_is_flat_but_for_noise_and_peaks_is_flat() -> None:
    chance = random.Random(1)
    noisy = [60 + chance.gauss(0, 1) + (30 if chance.random() < 0.2 else 0) for _ in TIMES]
    assert courses(noisy)[0] < MOST_RISE


def test_what_grows_before_the_warm_up_ends_is_passed_over() -> None:
    assert courses([min(at_s, WARM_S) + 60 for at_s in TIMES])[0] == 1


def test_a_leak_is_seen() -> None:
    leak_an_hour = 0.08 * 60
    assert (
        courses([60 + leak_an_hour * at_s / 3_600 * END_S / (END_S - WARM_S) for at_s in TIMES])[0]
        > MOST_RISE
    )


def test_what_rises_and_falls_again_has_risen() -> None:
    assert courses([90.0 if 1_500 < at_s < 2_500 else 60.0 for at_s in TIMES])[0] == 1.5


def test_a_descriptor_that_is_left_each_minute_is_seen() -> None:
    found = course([(at_s, 12 + at_s // 60) for at_s in TIMES], WARM_S, END_S)
    assert found.highest > found.most


@given(first=st.integers(1, 30), more=st.integers(0, LEAST_COUNTED))
def test_one_or_two_more_are_no_leak(first: int, more: int) -> None:
    found = course([(at_s, first + more * (at_s > END_S / 2)) for at_s in TIMES], WARM_S, END_S)
    assert found.highest <= found.most


@pytest.mark.parametrize("samples", [[], [(700.0, 1.0)], [(at_s, 1.0) for at_s in TIMES if at_s < 2_000]])
def test_a_run_that_was_cut_short_is_no_verdict(samples: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=f"{WINDOWS} windows"):
        course(samples, WARM_S, END_S)


def test_a_warm_up_longer_than_the_run_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="too few"):
        course([(0.0, 1.0)], END_S, WARM_S)


def missed(soaked: Soaked) -> list[str]:
    parser = argparse.ArgumentParser()
    verdict.add_options(parser)
    figures: tuple[Figure, ...] = verdict.findings(soaked, parser.parse_args([])).figures
    assert len(figures) == len(SERVICES) * len(verdict.NUMBERS) + 1
    return [figure.name for figure in figures if not figure.is_met]


def an_hour(leaking: str = "", *, faces_end_s: float = END_S) -> Soaked:
    soaked = Soaked(seconds=END_S)
    for at_s in TIMES:
        soaked.faces.append((at_s, int(min(at_s, faces_end_s))))
        for name in SERVICES:
            leak = int(at_s / 100) if name == leaking else 0
            soaked.samples[name].append(Sample(at_s, 60_000_000, 40_000_000 + leak * 100_000, 15 + leak, 8))
    return soaked


def test_an_hour_in_which_all_is_flat_misses_nothing() -> None:
    assert missed(an_hour()) == []


def test_the_service_that_leaks_is_named() -> None:
    found = missed(an_hour("gallery"))
    assert found == [
        "gallery: own memory, highest window over the first",
        "gallery: descriptors, highest window",
    ]


def test_a_pipeline_that_stands_still_is_not_taken_for_a_flat_one() -> None:
    assert missed(an_hour(faces_end_s=1_000.0)) == ["faces stored in the last sixth"]
