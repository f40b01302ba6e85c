import structlog

from services.common.storage.objects import StoreUnavailable
from services.gallery.metrics import STORE_AVAILABLE

log = structlog.get_logger()


class Looks:
    """Whether the last look into the store went well; says so in the log when that changes."""

    def __init__(self) -> None:
        self._why_not: str | None = None
        STORE_AVAILABLE.set(1)

    def failed(self, error: StoreUnavailable) -> None:
        """Note that the store could not be read."""
        if error.reason != self._why_not:
            log.warning("gallery.store_unavailable", reason=error.reason, detail=error.detail)
        self._why_not = error.reason
        STORE_AVAILABLE.set(0)

    def worked(self) -> None:
        """Note that the store could be read."""
        if self._why_not is not None:
            log.info("gallery.store_available")
        self._why_not = None
        STORE_AVAILABLE.set(1)

    def why_not_ready(self) -> str | None:
        """Return nothing while all is well, else what is wrong (see `health.Check`)."""
        return self._why_not
