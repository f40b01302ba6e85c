"""Traces of the whole way, as OpenTelemetry's own collector understands them."""

from pathlib import Path

from tests.collector.server import Collector
from tests.otlp import needs_otel, pipeline
from tests.support import eventually


async def test_the_collector_sees_faces_from_camera_to_bucket(tmp_path: Path, clips: Path) -> None:
    needs_otel()
    with Collector(tmp_path) as collector:
        async with pipeline(tmp_path, clips / "classroom.mp4", collector.url):

            def stored() -> int:
                return len([span for span in collector.spans() if span.name == "store"])

            await eventually(lambda: stored() > 2, 90)
        spans = {span.id: span for span in collector.spans()}
    for store in (span for span in spans.values() if span.name == "store"):
        send = spans.get(store.parent)
        if send is None:
            continue  # forward was ended before it had sent what it held
        assert (send.name, send.trace) == ("forward send", store.trace)
        assert send.link is not None
        detect = spans[send.link[1]]
        assert (detect.name, spans[detect.parent].name) == ("detect", "capture")
        assert detect.trace == send.link[0] != store.trace
    assert any(span.name == "store" and span.parent in spans for span in spans.values())
