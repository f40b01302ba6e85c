"""What a service says once a minute."""

import asyncio

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter

from services.common.runtime import metrics
from services.common.runtime.metrics import CountDeltas, summarise, total, waiting


def test_what_was_added_is_said_and_what_was_not_is_left_out() -> None:
    progress = CountDeltas({"frames": 3.0, "dropped": 1.0})
    assert progress.since({"frames": 10.0, "dropped": 1.0}) == {"frames": 7}
    assert progress.since({"frames": 10.0, "dropped": 1.0}) == {}


def test_a_counter_is_summed_over_its_labels() -> None:
    counter = Counter("dropped_total", "Some.", ["reason"], registry=CollectorRegistry())
    counter.labels("stale").inc(2)
    counter.labels("torn").inc()
    assert total(counter) == 3


def test_what_waits_is_said_with_its_age_and_the_reason() -> None:
    assert waiting(0, 5.0, "no link") == {}
    assert waiting(2, 5.04, "no link") == {"waiting": 2, "oldest_s": 5.0, "why": "no link"}
    assert waiting(1, None, None) == {"waiting": 1}


async def test_nothing_is_said_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FIRST_S", 0.001)
    monkeypatch.setattr(metrics, "EVERY_S", 0.001)
    counts = iter([0, 0, 4, 4, 4, 4])
    waits = iter([{}, {}, {}, {"waiting": 1}])
    with structlog.testing.capture_logs() as logs:
        telling = summarise("x.summary", lambda: {"frames": next(counts)}, lambda: next(waits))
        with pytest.raises(RuntimeError, match="StopIteration"):  # there is no fifth time
            await asyncio.wait_for(telling, 5)
    said = [{name: value for name, value in line.items() if name != "log_level"} for line in logs]
    assert said == [{"event": "x.summary", "frames": 4}, {"event": "x.summary", "waiting": 1}]
