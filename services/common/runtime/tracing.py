"""Traces: which steps a face went through, and where it waited. Off by default, and then nothing is loaded.

A span's trace context travels as `traceparent` (W3C Trace Context, level 1), an extension of CloudEvents.
While traces are off, all spans are `NO_SPAN`, which does nothing.
"""

import contextlib
import re
from collections.abc import Coroutine, Iterator
from typing import Any

from services.common.errors import SetupError
from services.common.runtime.shared_settings import TracesSettings
from services.common.runtime.spans import NO_SPAN, Known, Span, Tracer
from services.common.wire.cloudevents import TRACEPARENT
from services.common.wire.message import Message

_SAMPLED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]", re.ASCII)
_tracer: Tracer | None = None


def is_on() -> bool:
    """Return whether traces are on."""
    return _tracer is not None


def begin(name: str, *, start_s: float | None = None, **known: Known) -> Span:
    """Begin a trace of a frame.

    Args:
        name: the step's name.
        start_s: when it began, Unix time; None: now.
        known: attributes of the span.
    """
    return NO_SPAN if _tracer is None else _tracer.begin(name, start_s, known)


def go_on(name: str, parent: str | None, **known: Known) -> Span:
    """Continue the trace of a message; without one return `NO_SPAN`.

    Args:
        name: the step's name.
        parent: the message's `traceparent`; None: it has none.
        known: attributes of the span.
    """
    if _tracer is None or parent is None or not is_sampled(parent):
        return NO_SPAN
    return _tracer.go_on(name, parent, known)


def follow(name: str, earlier: str | None, **known: Known) -> Span:
    """Begin a trace that is linked to the one before a wait; arguments as of `go_on`."""
    if _tracer is None or earlier is None or not is_sampled(earlier):
        return NO_SPAN
    return _tracer.follow(name, earlier, known)


def is_sampled(traceparent: str) -> bool:
    """Return whether a trace context is valid and its trace is recorded."""
    return _SAMPLED.fullmatch(traceparent) is not None


def in_message(message: Message) -> str | None:
    """Return a message's `traceparent`, or None without one or while traces are off."""
    if _tracer is None:
        return None
    return next((value for name, value in message.attributes if name == TRACEPARENT), None)


def with_place(message: Message, span: Span) -> tuple[tuple[str, str], ...]:
    """Return a message's attributes with a span's `traceparent` in place of its own."""
    if span.traceparent is None:
        return message.attributes
    rest = (pair for pair in message.attributes if pair[0] != TRACEPARENT)
    return (*rest, (TRACEPARENT, span.traceparent))


async def traced(work: Coroutine[Any, Any, None], service: str, settings: TracesSettings) -> None:
    """Run a service, with traces if the settings say so.

    Raises:
        SetupError: they do, and the extra `otel` is not installed.
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
        from services.common.runtime.otel import open_tracer  # noqa: PLC0415 - loaded only if traces are on
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
