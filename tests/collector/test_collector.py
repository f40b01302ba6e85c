"""Traces of the whole way, as OpenTelemetry's own collector understands them."""

from pathlib import Path

from tests.collector.server import Collector, Seen
from tests.otlp import needs_otel, pipeline
from tests.support import eventually


def is_complete(spans: list[Seen]) -> bool:
    """Whether faces are stored, and what led there has come, too: each service sends when it likes."""
    ids = {span.id for span in spans}
    led_by = {span.parent for span in spans if span.parent} | {span.link[1] for span in spans if span.link}
    return len([span for span in spans if span.name == "store"]) > 2 and led_by <= ids


async def test_the_collector_sees_faces_from_camera_to_bucket(tmp_path: Path, clips: Path) -> None:
    needs_otel()
    with Collector(tmp_path) as collector:
        async with pipeline(tmp_path, clips / "classroom.mp4", collector.url):
            await eventually(lambda: is_complete(collector.spans()), 90)
            spans = {span.id: span for span in collector.spans()}
    for store in (span for span in spans.values() if span.name == "store"):
        if store.parent not in spans:
            continue  # it came while the others were looked at
        send = spans[store.parent]
        assert (send.name, send.trace) == ("forward send", store.trace)
        assert send.link is not None
        detect = spans[send.link[1]]
        assert (detect.name, spans[detect.parent].name) == ("detect", "capture")
        assert detect.trace == send.link[0] != store.trace
    assert any(span.name == "store" and span.parent in spans for span in spans.values())
