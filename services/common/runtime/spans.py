"""Spans of traces, as interfaces: `otel` implements them, and `NO_SPAN` does nothing."""

from typing import Protocol

Known = str | int | float | bool


class Span(Protocol):
    """One step in the processing of a frame or a face.

    Attributes:
        traceparent: the trace context to send along to the next step (W3C); None: it is not traced.
    """

    @property
    def traceparent(self) -> str | None: ...  # noqa: D102

    def note(self, **known: Known) -> None:
        """Add attributes to the span."""

    def end(self, problem: str | None = None) -> None:
        """End the span; with a problem it counts as failed."""


class Tracer(Protocol):
    """Makes spans; `known` are their attributes."""

    def begin(self, name: str, start_s: float | None, known: dict[str, Known]) -> Span:
        """Begin a trace, or return `NO_SPAN`: only a share is made. `start_s` is Unix time; None: now."""

    def go_on(self, name: str, parent: str, known: dict[str, Known]) -> Span:
        """Continue the trace of the `traceparent` given as parent, which must be a sampled one."""

    def follow(self, name: str, earlier: str, known: dict[str, Known]) -> Span:
        """Begin a trace linked to an earlier one, given by its `traceparent`, which must be a sampled one."""


class _NoSpan:
    traceparent = None

    def note(self, **known: Known) -> None:
        pass

    def end(self, problem: str | None = None) -> None:
        pass


NO_SPAN: Span = _NoSpan()
