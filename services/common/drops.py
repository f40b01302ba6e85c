import structlog
from prometheus_client import Counter

REPEAT_EVERY = 1_000


class Drops:
    """Counts what is dropped or refused on purpose, and says so at the first of each reason.

    Args:
        counter: a Prometheus counter whose last label is the reason.
        event: the event's name in the log, such as `store.face_refused`.
    """

    def __init__(self, counter: Counter, event: str) -> None:
        self._counter = counter
        self._event = event
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._counts: dict[str, int] = {}

    def count(self, reason: str, *labels: str, **context: object) -> None:
        """Count one; log the first of its reason, and every thousandth after it."""
        if (counter := self._counters.get((*labels, reason))) is None:  # a flood is counted one by one
            counter = self._counters[*labels, reason] = self._counter.labels(*labels, reason)
        counter.inc()
        count = self._counts.get(reason, 0) + 1
        self._counts[reason] = count
        if count % REPEAT_EVERY == 1:
            structlog.get_logger().warning(self._event, reason=reason, so_far=count, **context)

    @property
    def counts(self) -> dict[str, int]:
        """How many, by reason; a copy."""
        return dict(self._counts)
