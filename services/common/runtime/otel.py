"""Spans made with OpenTelemetry's library, the extra `otel`; no other module imports it.

They are sent as OTLP over HTTP by a thread of the library, every few seconds. Spans that the collector does
not accept in time are lost, which is logged: faces never wait for traces. The variables of the OpenTelemetry
standard apply, such as `OTEL_EXPORTER_OTLP_HEADERS`.
"""

import contextlib
import gc
import random
from collections.abc import Iterator

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as TheirSpan
from opentelemetry.trace import Tracer as TheirTracer

from services.common.runtime.shared_settings import TracesSettings
from services.common.runtime.spans import NO_SPAN, Known, Span
from services.common.version import VERSION

SEND_S = 2.0
"""The longest time that sending may take, seconds, also at the end of a service."""


class OtelSpan:
    """See `spans.Span`."""

    def __init__(self, span: TheirSpan) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """Its trace context (W3C)."""
        place = self._span.get_span_context()
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-01"

    def note(self, **known: Known) -> None:
        """Add attributes."""
        self._span.set_attributes(_named(known))

    def end(self, problem: str | None = None) -> None:
        """End it, as failed if there was a problem."""
        if problem is not None:
            self._span.set_status(Status(StatusCode.ERROR, problem))
        self._span.end()


class OtelTracer:
    """See `spans.Tracer`.

    Args:
        tracer: the library's.
        share: which part of the traces to begin is made, 0..1, chosen at random.
    """

    def __init__(self, tracer: TheirTracer, share: float) -> None:
        self._tracer = tracer
        self._share = share

    def begin(self, name: str, start_s: float | None, known: dict[str, Known]) -> Span:
        """See `spans.Tracer.begin`."""
        if random.random() >= self._share:
            return NO_SPAN
        start_ns = None if start_s is None else int(start_s * 1e9)
        return OtelSpan(
            self._tracer.start_span(
                name, kind=SpanKind.PRODUCER, attributes=_named(known), start_time=start_ns
            )
        )

    def go_on(self, name: str, parent: str, known: dict[str, Known]) -> Span:
        """See `spans.Tracer.go_on`."""
        context = set_span_in_context(NonRecordingSpan(_place(parent)))
        return OtelSpan(self._tracer.start_span(name, context, SpanKind.CONSUMER, _named(known)))

    def follow(self, name: str, earlier: str, known: dict[str, Known]) -> Span:
        """See `spans.Tracer.follow`."""
        links = [Link(_place(earlier))]
        return OtelSpan(
            self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=_named(known), links=links)
        )


@contextlib.contextmanager
def open_tracer(service: str, settings: TracesSettings) -> Iterator[OtelTracer]:
    """Open a tracer for a service; at the end of the context send the remaining spans."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"faceferry.{service}", "service.version": VERSION}),
        sampler=ALWAYS_ON,  # sampling is decided where a trace begins; see `OtelTracer.begin`
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{(settings.otlp_url or '').rstrip('/')}/v1/traces", timeout=SEND_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    # The library's many objects live for ever; frozen, they do not slow down each garbage collection.
    gc.collect()
    gc.freeze()
    try:
        yield OtelTracer(provider.get_tracer("faceferry", VERSION), settings.trace_share)
    finally:
        provider.shutdown()


def _place(traceparent: str) -> SpanContext:
    _, trace, span, _ = traceparent.split("-")
    is_made = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=is_made)


def _named(known: dict[str, Known]) -> dict[str, Known]:
    return {f"faceferry.{name}": value for name, value in known.items()}
