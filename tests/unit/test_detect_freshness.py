import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.wire.frames import Frame
from services.common.wire.topics import Source
from services.detect.freshness import DISBELIEF_S, MEMORY_S, PROOF_S, Freshness

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY_S = 86_400.0
MAX_AGE_S = 2.0

offsets_s = st.one_of(st.floats(-90, 90), st.floats(-400 * DAY_S, 400 * DAY_S))
rates_hz = st.floats(0.5, 60)


def frame(age_s: float, *, is_paced: bool = False, camera: str = "front") -> Frame:
    return Frame(Source("porch", camera), 1, NOON - timedelta(seconds=age_s), b"", paced=is_paced)


class Camera:
    """Shows frames to detect, each with the delay and the difference of clocks that it is given."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.freshness = Freshness(MAX_AGE_S, 8)
        self.offset_s = offset_s
        self.now_s = 1_000.0

    def is_stale(self, delay_s: float) -> bool:
        return self.freshness.is_stale(frame(self.offset_s + delay_s), NOON, self.now_s)

    def verdicts(self, delays_s: Iterable[float], rate_hz: float = 10.0) -> list[bool]:
        """What is said of frames that come at a steady rate."""
        said = []
        for delay_s in delays_s:
            said.append(self.is_stale(delay_s))
            self.now_s += 1 / rate_hz
        return said


def test_live_frame_older_than_the_limit_is_stale() -> None:
    freshness = Freshness(2.0, 8)
    assert not freshness.is_stale(frame(1.9), NOON, 0)
    assert freshness.is_stale(frame(2.1), NOON, 0)


def test_paced_frame_never_is() -> None:
    assert not Freshness(2.0, 8).is_stale(frame(10 * DAY_S, is_paced=True), NOON, 0)


def test_limit_of_zero_means_never() -> None:
    assert not Freshness(0, 8).is_stale(frame(10 * DAY_S), NOON, 0)


@given(offset_s=offsets_s, delay_s=st.floats(0, 0.19))
def test_an_age_is_that_of_the_frame_and_not_the_difference_of_the_clocks(
    offset_s: float, delay_s: float
) -> None:
    camera = Camera(offset_s)
    camera.verdicts([0.0] * 20)
    assert not camera.is_stale(delay_s)
    assert abs(camera.freshness.age_s(frame(camera.offset_s + delay_s), NOON) - delay_s) < 0.001


def test_after_a_clock_was_set_ages_are_right_again() -> None:
    camera = Camera()
    camera.verdicts([0.1] * 20)
    camera.offset_s = 57 * 365 * DAY_S  # ours was in 1970, and is not any more
    assert all(camera.verdicts([0.1] * 10))
    camera.now_s += DISBELIEF_S
    assert not camera.is_stale(0.1)
    assert camera.freshness.age_s(frame(camera.offset_s + 0.1), NOON) < 1


@given(offset_s=st.floats(-400 * DAY_S, 0), delay_s=st.floats(0, 1.9))
def test_not_even_the_first_frame_of_a_clock_that_agrees_or_is_ahead_is_lost(
    offset_s: float, delay_s: float
) -> None:
    assert not Camera(offset_s).is_stale(delay_s)


@given(
    offset_s=offsets_s,
    rate_hz=rates_hz,
    delays_s=st.lists(st.floats(0, 0.19), min_size=3, max_size=200),
)
def test_whatever_a_clock_shows_only_the_proof_is_lost(
    offset_s: float, rate_hz: float, delays_s: list[float]
) -> None:
    proof = int(PROOF_S * rate_hz) + 2
    said = Camera(offset_s).verdicts(islice(cycle(delays_s), proof + len(delays_s)), rate_hz)
    assert len(said) > proof
    assert not any(said[proof:])


@given(offset_s=offsets_s, seed=st.integers())
def test_nor_does_a_link_with_wild_delays_lose_more_than_the_first_seconds(
    offset_s: float, seed: int
) -> None:
    chance = random.Random(seed)
    said = Camera(offset_s).verdicts(chance.uniform(0, 1.9) for _ in range(700))
    assert not any(said[100:])


@given(offset_s=offsets_s, late_s=st.floats(2.2, 600))
def test_of_a_camera_that_is_known_what_comes_late_is_stale_whatever_its_clock_shows(
    offset_s: float, late_s: float
) -> None:
    camera = Camera(offset_s)
    camera.verdicts([0.1] * 50)
    is_on_time_by_our_clock = 0 <= offset_s + late_s <= MAX_AGE_S
    assert camera.is_stale(late_s) != is_on_time_by_our_clock
    assert not camera.is_stale(0.1)


@given(length_s=st.floats(3, 3_600), speed=st.floats(2, 10_000), rate_hz=st.floats(4, 30))
@example(length_s=3.0000000000000004, speed=2.0, rate_hz=4.0)
def test_queue_that_is_there_at_the_start_is_stale_whole(
    length_s: float, speed: float, rate_hz: float
) -> None:
    """Frames that were taken at a steady rate come out faster, until the queue is empty."""
    camera = Camera()
    count = min(2_000, int(length_s * rate_hz))
    # A frame's time has microseconds.
    delays_s = [round(length_s - number / rate_hz * (1 - 1 / speed), 6) for number in range(count)]
    said = camera.verdicts(delays_s, rate_hz * speed)
    assert said == [delay_s > MAX_AGE_S for delay_s in delays_s]
    assert not camera.is_stale(0.1)


def test_backlog_of_a_long_stop_is_stale_whole() -> None:
    freshness = Freshness(2.0, 8)
    ages = [600 - number / 30 for number in range(17_940)]
    backlog = [freshness.is_stale(frame(age), NOON, 50 + number / 10_000) for number, age in enumerate(ages)]
    assert all(backlog)
    assert not freshness.is_stale(frame(0.1), NOON, 53)


@given(before_s=offsets_s, step_s=st.floats(-30 * DAY_S, 30 * DAY_S))
def test_no_step_of_a_clock_stops_a_camera_for_long(before_s: float, step_s: float) -> None:
    camera = Camera(before_s)
    camera.verdicts([0.05] * 100)
    camera.offset_s += step_s
    said = camera.verdicts([0.05] * 200)
    assert not any(said[round(DISBELIEF_S * 10) + 2 :])
    if step_s <= MAX_AGE_S - 0.1:
        assert not any(said), "ages that shrink prove themselves"


def test_step_below_the_limit_is_forgotten_and_leaves_the_limit_whole() -> None:
    camera = Camera(30.0)
    camera.verdicts([0.05] * 100)
    camera.offset_s += 1.5
    camera.verdicts([0.05] * round(2 * MEMORY_S * 10 + 10))
    assert not camera.is_stale(1.9)


@settings(max_examples=30)
@given(drift=st.floats(-500e-6, 500e-6), offset_s=st.floats(-90, 90))
def test_clock_that_drifts_for_hours_loses_nothing(drift: float, offset_s: float) -> None:
    camera = Camera(offset_s)
    camera.verdicts([0.1] * 20)
    for _ in range(2_000):
        camera.offset_s += 2 * drift
        camera.now_s += 2.0
        assert not camera.is_stale(1.7)
        assert not camera.is_stale(0.1)


def test_camera_whose_clock_is_a_day_behind_is_believed_after_a_moment() -> None:
    camera = Camera(DAY_S)
    said = camera.verdicts([0.0] * 20)
    assert said.index(False) == round(PROOF_S * 10)
    assert not any(said[round(PROOF_S * 10) :])
    assert camera.is_stale(2.5), "its frames still age"


def test_clock_that_is_repaired_is_believed_at_once() -> None:
    for offset_s in (DAY_S, -DAY_S):
        camera = Camera(offset_s)
        camera.verdicts([0.1] * 20)
        camera.offset_s = 0.0
        assert not camera.is_stale(0.1)


def test_one_late_frame_among_others_changes_nothing() -> None:
    camera = Camera()
    said = camera.verdicts(([0.1] * 9 + [30.0]) * 20)
    assert said == ([False] * 9 + [True]) * 20


def test_only_so_many_cameras_are_remembered() -> None:
    freshness = Freshness(2.0, 4)
    for number in range(1_000):
        freshness.is_stale(frame(0, camera=f"camera-{number}"), NOON, 0)
    assert len(freshness._clocks) == 4
