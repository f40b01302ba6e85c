"""Traces of the whole way: four services, two brokers, and a receiver of OTLP."""

import time
from pathlib import Path

import pytest

from tests.otlp import Receiver, needs_otel, pipeline, receiving
from tests.support import eventually


@pytest.fixture(autouse=True)
def _otel() -> None:
    needs_otel()


def complete(receiver: Receiver) -> bool:
    """Whether faces are stored, and what led there has come, too: each service sends when it likes."""
    ids = {span.id for span in receiver.spans}
    led_by = {span.parent for span in receiver.spans if span.parent}
    led_by |= {place for span in receiver.spans for _, place in span.links}
    return len(receiver.named("store")) > 2 and led_by <= ids


async def test_a_face_is_one_trace_to_the_spool_and_a_linked_one_to_the_bucket(
    tmp_path: Path, clips: Path
) -> None:
    with receiving() as receiver:
        async with pipeline(tmp_path, clips / "classroom.mp4", receiver.url):
            await eventually(lambda: complete(receiver), 90)
            seen = [*receiver.spans]
    spans = {span.id: span for span in seen}
    for store in (span for span in seen if span.name == "store"):
        send = spans[store.parent]
        assert (send.name, send.trace, send.parent) == ("forward send", store.trace, "")
        ((trace, place),) = send.links
        detect = spans[place]
        capture = spans[detect.parent]
        assert (detect.name, capture.name, capture.parent) == ("detect", "capture", "")
        assert {detect.trace, capture.trace} == {trace} != {store.trace}
        assert send.start_s > detect.end_s - 1
    takes = [span for span in seen if span.name == "forward take"]
    assert takes
    assert all(spans[take.parent].name == "detect" for take in takes)
    assert {span.service for span in spans.values()} == {
        f"faceferry.{name}" for name in ("capture", "detect", "forward", "store")
    }
    assert not any("traceparent" in text.read_text() for text in (tmp_path / "faces").rglob("*.json"))


async def test_a_collector_that_is_away_costs_no_face_and_no_time_at_the_end(
    tmp_path: Path, clips: Path
) -> None:
    async with pipeline(tmp_path, clips / "classroom.mp4", "http://127.0.0.1:9") as services:
        await eventually(lambda: services["store"].metric("faceferry_store_puts_total") > 2, 60)
        began_s = time.monotonic()
        assert services["detect"].stop() == 0
        assert time.monotonic() - began_s < 15
        lines = [line for line in services["detect"].log.splitlines() if line.strip()]
        assert all(line.startswith("{") for line in lines), "a line that is no JSON"
