import structlog

from services.common.storage.objects import StoreUnavailable
from services.store.metrics import AVAILABLE

log = structlog.get_logger()


class Availability:
    """Whether the bucket or folder takes writes just now; says so in the log when that changes."""

    def __init__(self) -> None:
        self._why_not: str | None = "not tried yet"
        # Reasons told since it last worked: under a flapping network they alternate with every try.
        self._told: set[str] = set()
        AVAILABLE.set(0)

    def failed(self, error: StoreUnavailable) -> None:
        """Note that the store could not be used; each reason is logged once an outage."""
        if error.reason not in self._told:
            log.warning("store.unavailable", reason=error.reason, detail=error.detail)
        self._why_not = error.reason
        self._told.add(error.reason)
        AVAILABLE.set(0)

    def worked(self) -> None:
        """Note that the store could be used."""
        if self._why_not is not None:
            log.info("store.available")
        self._why_not = None
        self._told.clear()
        AVAILABLE.set(1)

    def why_not_ready(self) -> str | None:
        """Return nothing while all is well, else what is wrong (see `health.Check`)."""
        return self._why_not
