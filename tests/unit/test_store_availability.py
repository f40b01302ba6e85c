import asyncio
import contextlib

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.common.storage.objects import StoreUnavailable
from services.store import availability as module
from services.store.availability import Availability
from tests.storing import Bucket


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.01)


def gauge() -> float | None:
    return REGISTRY.get_sample_value("faceferry_store_available")


def test_it_is_not_ready_before_it_has_worked_once() -> None:
    availability = Availability()
    assert availability.why_not_ready() == "not tried yet"
    assert gauge() == 0
    availability.verified()
    assert availability.why_not_ready() is None
    assert gauge() == 1


def test_each_reason_of_an_outage_is_logged_once_and_the_last_one_shown() -> None:
    availability = Availability()
    with capture_logs() as lines:
        for _ in range(2):
            for reason in ("timeout", "unreachable"):
                availability.verify_failed(StoreUnavailable(reason))
            assert availability.why_not_ready() == "unreachable"
            availability.verify_failed(StoreUnavailable("timeout"))
            availability.verified()
            availability.verified()
            assert availability.why_not_ready() is None
    outage = [
        ("store.unavailable", "timeout"),
        ("store.unavailable", "unreachable"),
        ("store.available", None),
    ]
    assert [(line["event"], line.get("reason")) for line in lines] == outage * 2


async def test_what_ready_the_gauge_and_the_log_say_is_the_same_at_each_moment() -> None:
    bucket, availability = Bucket(), Availability()
    bucket.check_every_s = 0.05
    availability.verified()
    with capture_logs() as lines:
        async with asyncio.timeout(60):
            watch = asyncio.create_task(availability.watch(bucket))
            bucket.trouble = "read_only"
            await _until(availability, "read_only")
            assert (gauge(), lines[-1]["event"], lines[-1]["reason"]) == (0, "store.unavailable", "read_only")
            bucket.trouble = None
            await _until(availability, None)
            assert (gauge(), lines[-1]["event"]) == (1, "store.available")
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
    assert len(lines) == 2


async def test_faces_are_tried_again_as_soon_as_the_store_works_again() -> None:
    bucket, availability = Bucket(), Availability()
    availability.write_failed("face", 1_000, StoreUnavailable("full"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(availability.watch(bucket))
        await availability.pause(60.0)
        watch.cancel()


async def _until(availability: Availability, why_not: str | None) -> None:
    while availability.why_not_ready() != why_not:  # noqa: ASYNC110 - it is polled by its users, too
        await asyncio.sleep(0.005)
