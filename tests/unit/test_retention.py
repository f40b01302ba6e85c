from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.retention import (
    KEEP_FOREVER,
    MOST_DAYS,
    Retention,
    SettledClock,
    kept_since,
    parse_retention,
)

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
TIMES = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "30 days", "never", "Forever", "36501", "1e3", "٣"])
def test_what_is_neither_days_nor_forever_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="or forever"):
        parse_retention(text)


def test_days_and_forever_are_read_and_said() -> None:
    assert parse_retention("forever") == KEEP_FOREVER
    assert parse_retention("30") == Retention(30)
    assert [str(each) for each in (KEEP_FOREVER, Retention(1), Retention(30))] == [
        "forever",
        "1 day",
        "30 days",
    ]


@given(since=TIMES, now=TIMES, days=st.integers(1, MOST_DAYS))
def test_nothing_younger_goes_and_everything_older_does(since: datetime, now: datetime, days: int) -> None:
    assert Retention(days).is_over(since, now) == (now - since > timedelta(days=days))
    assert not KEEP_FOREVER.is_over(since, now)


@given(since=st.datetimes(max_value=datetime(9000, 1, 1), timezones=st.just(UTC)), days=st.integers(1, 999))  # noqa: DTZ001 - a zone is given beside it
def test_what_is_shown_is_when_it_goes(since: datetime, days: int) -> None:
    until = Retention(days).until(since)
    assert until is not None
    assert not Retention(days).is_over(since, until)
    assert Retention(days).is_over(since, until + timedelta(microseconds=1))
    assert KEEP_FOREVER.until(since) is None


def test_days_count_from_the_frame_unless_its_time_is_unknown_or_not_come_yet() -> None:
    hour = timedelta(hours=1)
    assert kept_since(NOON - hour, NOON, is_time_known=True) == NOON - hour
    assert kept_since(NOON - hour, NOON, is_time_known=False) == NOON
    assert kept_since(NOON + hour, NOON, is_time_known=True) == NOON


def test_a_clock_is_believed_when_it_has_gone_evenly_for_a_while() -> None:
    clock = SettledClock(900.0)
    wall_s = NOON.timestamp()
    assert clock.time(wall_s, 100.0) is None
    assert clock.time(wall_s + 899, 999.0) is None
    assert clock.time(wall_s + 900, 1_000.0) == NOON + timedelta(seconds=900)
    year_s = 365 * 86_400.0
    assert clock.time(wall_s + year_s + 901, 1_001.0) is None  # it was set, by a year
    assert clock.time(wall_s + 902, 1_002.0) is None  # and back
    assert clock.time(wall_s + 1_802, 1_902.0) == NOON + timedelta(seconds=1_802)


def test_a_clock_that_a_time_service_draws_is_believed_all_along() -> None:
    clock = SettledClock(900.0)
    wall_s = NOON.timestamp()
    clock.time(wall_s, 0.0)
    assert all(clock.time(wall_s + 901 + second * 1.0005, 901.0 + second) for second in range(3_600))
