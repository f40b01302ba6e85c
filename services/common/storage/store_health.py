import structlog
from prometheus_client import Gauge

from services.common.storage.objects import StoreUnavailable

log = structlog.get_logger()


class StoreHealth:
    """Whether a store works, as `/readyz`, a gauge and the log say it: the log when that changes.

    Args:
        gauge: is 1 while it works, else 0.
        available: the log's event when it works again.
        unavailable: the log's event for each reason why it does not, once until it works again: under a
            flapping network reasons alternate with every try.
        why_not: what is wrong before anything was tried; nothing where the best is assumed.
    """

    def __init__(self, gauge: Gauge, available: str, unavailable: str, why_not: str | None = None) -> None:
        self._gauge = gauge
        self._available = available
        self._unavailable = unavailable
        self._why_not = why_not
        self._told: set[str] = set()
        gauge.set(1 if why_not is None else 0)

    def why_not_ready(self) -> str | None:
        """Return None while all is well, else what is wrong (see `health.Check`)."""
        return self._why_not

    def failed(self, error: StoreUnavailable) -> None:
        """Note that it does not work."""
        if error.reason not in self._told:
            log.warning(self._unavailable, reason=error.reason, detail=error.detail)
            self._told.add(error.reason)
        self._why_not = error.reason
        self._gauge.set(0)

    def worked(self) -> None:
        """Note that it works."""
        if self._why_not is not None:
            log.info(self._available)
        self._told.clear()
        self._why_not = None
        self._gauge.set(1)
