"""How services log, and which repeated problems they log again."""

import logging
import math
import sys
from typing import Literal

import structlog

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure_logging(service: str, level: LogLevel = "info", log_format: LogFormat = "auto") -> None:
    """Send structlog and the standard library's logging to standard error, one event a line.

    Args:
        service: bound to every line.
        level: the least severe level that is shown.
        log_format: `json` for machines, `console` for people, `auto` for `console` on a terminal.
    """
    threshold = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_service(service),
    ]
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    render: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if is_console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def _with_service(service: str) -> structlog.types.Processor:
    def add(
        _logger: structlog.types.WrappedLogger, _method: str, event: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {"service": service, **event}

    return add


REPEAT_AFTER_S = 60.0
"""A reason is logged at most once in this time."""
_MOST_REASONS = 64


class RepeatFilter:
    """Says which reasons of an ongoing problem to log: each change of the reason.

    Two reasons that alternate are logged once in `REPEAT_AFTER_S` each, because they may alternate for days.
    """

    def __init__(self) -> None:
        self._last: str | None = None
        self._said_s: dict[str, float] = {}

    def is_new(self, reason: str, now_s: float) -> bool:
        """Return whether to log a reason now; if so, it counts as logged.

        Args:
            reason: what is wrong.
            now_s: the time, steady clock, seconds.
        """
        if reason == self._last or now_s - self._said_s.get(reason, -math.inf) < REPEAT_AFTER_S:
            return False
        self._last = reason
        self._said_s[reason] = now_s
        if len(self._said_s) > _MOST_REASONS:
            del self._said_s[next(iter(self._said_s))]
        return True

    def reset(self) -> None:
        """Note that the problem is over: the next reason is new, whatever it is."""
        self._last = None
        self._said_s.clear()
