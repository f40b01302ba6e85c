"""Spans by OpenTelemetry's own library, the extra `otel`; nothing else in this project knows it.

Sent as OTLP over HTTP, by a thread of the library's, some seconds' worth at a time. What a collector does not
take in time is lost and logged: faces wait for no trace. The standard's own variables hold, such as
`OTEL_EXPORTER_OTLP_HEADERS`.
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

from services.common.runtime.settings import TracesSettings
from services.common.runtime.spans import NO_SPAN, Known, Span
from services.common.version import VERSION

SEND_S = 2.0
"""So long may sending take; a service that ends waits no longer for what is left."""


class OtelSpan:
    """See `tracing.Span`."""

    def __init__(self, span: TheirSpan) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """Its place."""
        place = self._span.get_span_context()
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-01"

    def note(self, **known: Known) -> None:
        """Say what is known about it by now."""
        self._span.set_attributes(_named(known))

    def end(self, problem: str | None = None) -> None:
        """Say that it is done."""
        if problem is not None:
            self._span.set_status(Status(StatusCode.ERROR, problem))
        self._span.end()


class OtelTracer:
    """See `tracing.Tracer`.

    Args:
        tracer: the library's.
        share: how many of the traces that could be begun are, 0..1.
    """

    def __init__(self, tracer: TheirTracer, share: float) -> None:
        self._tracer = tracer
        self._share = share

    def begin(self, name: str, start_s: float | None, known: dict[str, Known]) -> Span:
        """Begin a trace, or not."""
        if random.random() >= self._share:
            return NO_SPAN
        start_ns = None if start_s is None else int(start_s * 1e9)
        return OtelSpan(
            self._tracer.start_span(
                name, kind=SpanKind.PRODUCER, attributes=_named(known), start_time=start_ns
            )
        )

    def go_on(self, name: str, parent: str, known: dict[str, Known]) -> Span:
        """Go on with a trace."""
        context = set_span_in_context(NonRecordingSpan(_place(parent)))
        return OtelSpan(self._tracer.start_span(name, context, SpanKind.CONSUMER, _named(known)))

    def follow(self, name: str, earlier: str, known: dict[str, Known]) -> Span:
        """Begin a trace that is linked with an earlier one."""
        links = [Link(_place(earlier))]
        return OtelSpan(
            self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=_named(known), links=links)
        )


@contextlib.contextmanager
def open_tracer(service: str, settings: TracesSettings) -> Iterator[OtelTracer]:
    """Open what makes spans, and send what is left at the end."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": f"faceferry.{service}", "service.version": VERSION}),
        sampler=ALWAYS_ON,  # whoever begins a trace decides; see `OtelTracer.begin`
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=f"{(settings.otlp_url or '').rstrip('/')}/v1/traces", timeout=SEND_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    # What the library is made of stays, and is not to be looked at by each collection of what does not.
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
