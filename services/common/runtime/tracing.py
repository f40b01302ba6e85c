"""Traces: which way a face took, and where it waited. Off unless it is asked for, and then nothing is loaded.

A span's place among others travels as `traceparent` (W3C Trace Context, level 1), which CloudEvents knows as
an extension. So long as nobody has said where traces go, there is one span, which does nothing.
"""

import contextlib
import re
from collections.abc import Coroutine, Iterator
from typing import Any

from services.common.errors import SetupError
from services.common.runtime.settings import TracesSettings
from services.common.runtime.spans import NO_SPAN, Known, Span, Tracer
from services.common.wire.cloudevents import TRACEPARENT
from services.common.wire.message import Message

_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]", re.ASCII)
_tracer: Tracer | None = None


def is_on() -> bool:
    """Say whether anybody wants traces."""
    return _tracer is not None


def begin(name: str, *, start_s: float | None = None, **known: Known) -> Span:
    """Begin a trace of a frame.

    Args:
        name: what is done.
        start_s: since when, Unix time; default: now.
        known: what is known about it.
    """
    return NO_SPAN if _tracer is None else _tracer.begin(name, start_s, known)


def go_on(name: str, parent: str | None, **known: Known) -> Span:
    """Go on with the trace that a message brought along, if it did.

    Args:
        name: what is done.
        parent: its `traceparent`.
        known: what is known about it.
    """
    if _tracer is None or parent is None or not is_sampled(parent):
        return NO_SPAN
    return _tracer.go_on(name, parent, known)


def follow(name: str, earlier: str | None, **known: Known) -> Span:
    """Begin a trace that is linked with the one before a wait; see `go_on`."""
    if _tracer is None or earlier is None or not is_sampled(earlier):
        return NO_SPAN
    return _tracer.follow(name, earlier, known)


def is_sampled(traceparent: str) -> bool:
    """Say whether this is a place in a trace that is made."""
    return _SAMPLED.fullmatch(traceparent) is not None


def in_message(message: Message) -> str | None:
    """Return what a message brought along, if anybody wants it."""
    if _tracer is None:
        return None
    return next((value for name, value in message.attributes if name == TRACEPARENT), None)


def with_place(message: Message, span: Span) -> tuple[tuple[str, str], ...]:
    """Return a message's attributes with a span's place in the stead of the one that it brought."""
    if span.traceparent is None:
        return message.attributes
    rest = (pair for pair in message.attributes if pair[0] != TRACEPARENT)
    return (*rest, (TRACEPARENT, span.traceparent))


async def traced(work: Coroutine[Any, Any, None], service: str, settings: TracesSettings) -> None:
    """Run a service, with traces if they are wanted.

    Raises:
        SetupError: they are wanted, and what makes them is not installed.
    """
    try:
        tracing = _to(service, settings)
    except SetupError:
        work.close()
        raise
    with tracing:
        await work


def _to(service: str, settings: TracesSettings) -> contextlib.AbstractContextManager[None]:
    if settings.otlp_url is None:
        return contextlib.nullcontext()
    try:
        from services.common.runtime.otel import open_tracer  # noqa: PLC0415 - only who wants traces pays for them
    except ImportError as error:
        raise SetupError(
            f"FACEFERRY_OTLP_URL: traces want `pip install 'faceferry[otel]'` ({error.name} is missing)"
        ) from None
    return _running(open_tracer(service, settings))


@contextlib.contextmanager
def _running(tracer: "contextlib.AbstractContextManager[Tracer]") -> Iterator[None]:
    global _tracer  # noqa: PLW0603 - one for the process, as metrics and the log are
    with tracer as _tracer:
        try:
            yield
        finally:
            _tracer = None
