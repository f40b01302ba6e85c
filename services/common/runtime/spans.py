"""Spans of traces: what is done with a frame or a face at one place, by whichever library they are made."""

from typing import Protocol

Known = str | int | float | bool


class Span(Protocol):
    """What is done with a frame or a face at one place.

    Attributes:
        traceparent: what is told to whoever goes on with it; nothing if that is not traced.
    """

    @property
    def traceparent(self) -> str | None: ...  # noqa: D102

    def note(self, **known: Known) -> None:
        """Say what is known about it by now."""

    def end(self, problem: str | None = None) -> None:
        """Say that it is done; or why it came to nothing."""


class Tracer(Protocol):
    """Makes spans."""

    def begin(self, name: str, start_s: float | None, known: dict[str, Known]) -> Span:
        """Begin a trace, or not: not each is made."""

    def go_on(self, name: str, parent: str, known: dict[str, Known]) -> Span:
        """Go on with a trace."""

    def follow(self, name: str, earlier: str, known: dict[str, Known]) -> Span:
        """Begin a trace that another, which ended long ago perhaps, has led to."""


class _NoSpan:
    traceparent = None

    def note(self, **known: Known) -> None:
        pass

    def end(self, problem: str | None = None) -> None:
        pass


NO_SPAN: Span = _NoSpan()
