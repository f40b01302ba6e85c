from datetime import UTC, datetime, timedelta

from services.common.frames import Frame
from services.common.topics import Source
from services.detect.freshness import DISBELIEF_S, Freshness

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY_S = 86_400.0


def frame(age_s: float, *, is_paced: bool = False, camera: str = "front") -> Frame:
    return Frame(Source("porch", camera), 1, NOON - timedelta(seconds=age_s), b"", paced=is_paced)


def verdicts(freshness: Freshness, age_s: float, seconds: float) -> list[bool]:
    """What is said of 10 frames a second that are all this old."""
    ticks = range(round(seconds * 10))
    return [
        freshness.is_stale(frame(age_s), NOON + timedelta(seconds=0), now_s=1_000 + tick / 10)
        for tick in ticks
    ]


def test_live_frame_older_than_the_limit_is_stale() -> None:
    freshness = Freshness(2.0, 8)
    assert not freshness.is_stale(frame(1.9), NOON, 0)
    assert freshness.is_stale(frame(2.1), NOON, 0)


def test_paced_frame_never_is() -> None:
    assert not Freshness(2.0, 8).is_stale(frame(10 * DAY_S, is_paced=True), NOON, 0)


def test_limit_of_zero_means_never() -> None:
    assert not Freshness(0, 8).is_stale(frame(10 * DAY_S), NOON, 0)


def test_frame_from_the_future_is_fresh() -> None:
    assert not any(verdicts(Freshness(2.0, 8), -DAY_S, 20))


def test_frames_that_are_late_stay_stale() -> None:
    assert all(verdicts(Freshness(2.0, 8), 3.0, 60))


def test_backlog_of_a_long_stop_is_stale_whole() -> None:
    freshness = Freshness(2.0, 8)
    ages = [600 - number / 30 for number in range(17_940)]
    backlog = [freshness.is_stale(frame(age), NOON, 50 + number / 10_000) for number, age in enumerate(ages)]
    assert all(backlog)
    assert not freshness.is_stale(frame(0.1), NOON, 53)


def test_camera_whose_clock_is_a_day_behind_is_believed_after_a_while() -> None:
    freshness = Freshness(2.0, 8)
    said = verdicts(freshness, DAY_S, 10)
    assert all(said[: round(DISBELIEF_S * 10)])
    assert not any(said[round(DISBELIEF_S * 10) :])
    assert freshness.is_stale(frame(DAY_S + 2.5), NOON, 1_020), "its frames still age"


def test_clock_that_is_mended_is_believed_at_once() -> None:
    freshness = Freshness(2.0, 8)
    verdicts(freshness, DAY_S, 10)
    assert not freshness.is_stale(frame(0.1), NOON, 1_020)
    assert freshness.is_stale(frame(DAY_S), NOON, 1_021)


def test_only_so_many_cameras_are_remembered() -> None:
    freshness = Freshness(2.0, 4)
    for number in range(1_000):
        freshness.is_stale(frame(0, camera=f"camera-{number}"), NOON, 0)
    assert len(freshness._clocks) == 4
