import structlog
from prometheus_client import Gauge

from services.common.storage.objects import StoreUnavailable

log = structlog.get_logger()


class StoreHealth:
    """Whether a store works, for `/readyz`, a gauge and the log; only changes are logged.

    Args:
        gauge: set to 1 while it works, else to 0.
        available: the event that is logged when it works again.
        unavailable: the event that is logged once for each reason until it works again: with an unstable
            network reasons alternate with every try.
        why_not: the reason before the first try; None: it counts as working.
    """

    def __init__(self, gauge: Gauge, available: str, unavailable: str, why_not: str | None = None) -> None:
        self._gauge = gauge
        self._available = available
        self._unavailable = unavailable
        self._why_not = why_not
        self._told: set[str] = set()
        gauge.set(1 if why_not is None else 0)

    def why_not_ready(self) -> str | None:
        """Return None while it works, else the reason (see `http.Check`)."""
        return self._why_not

    def failed(self, error: StoreUnavailable) -> None:
        """Note a failed request."""
        if error.reason not in self._told:
            log.warning(self._unavailable, reason=error.reason, detail=error.detail)
            self._told.add(error.reason)
        self._why_not = error.reason
        self._gauge.set(0)

    def worked(self) -> None:
        """Note a request that succeeded."""
        if self._why_not is not None:
            log.info(self._available)
        self._told.clear()
        self._why_not = None
        self._gauge.set(1)
