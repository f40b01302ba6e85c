"""Metrics of several services, drops by reason, a summary each minute, and metrics of other processes."""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

DEVICE_INFO = Gauge(
    "faceferry_device_info",
    "The device of this process, to tell the metrics of several devices apart.",
    ["device"],
)
MQTT_LINK_UP = Gauge(
    "faceferry_mqtt_link_up", "Whether the connection to a broker is up.", ["link", "broker"]
)
MQTT_DROPPED = Counter(
    "faceferry_mqtt_dropped_total", "MQTT messages dropped before a service saw them.", ["link", "reason"]
)
CERTIFICATE_EXPIRY = Gauge(
    "faceferry_certificate_expiry_timestamp_seconds",
    "When a certificate expires: our own, the authority's, or the one that the broker has shown.",
    ["link", "broker", "certificate"],
)
HTTP_CLOSED = Counter(
    "faceferry_http_closed_total", "Connections to our own HTTP ports that were ended, by reason.", ["reason"]
)


REPEAT_EVERY = 1_000


class Drops:
    """Counts what is dropped or refused on purpose, and logs the first of each reason.

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
        """Count one drop; log the first of its reason, and then every thousandth.

        Args:
            reason: why, the counter's last label.
            labels: the counter's other labels.
            context: further keys of the log line.
        """
        if (
            counter := self._counters.get((*labels, reason))
        ) is None:  # looked up once: floods are counted one by one
            counter = self._counters[*labels, reason] = self._counter.labels(*labels, reason)
        counter.inc()
        count = self._counts.get(reason, 0) + 1
        self._counts[reason] = count
        if count % REPEAT_EVERY == 1:
            structlog.get_logger().warning(self._event, reason=reason, so_far=count, **context)

    @property
    def counts(self) -> dict[str, int]:
        """The drops so far, by reason; a copy."""
        return dict(self._counts)


FIRST_S = 10.0
"""The first summary comes soon after the start, so that the user sees that the service works."""
EVERY_S = 60.0

Counts = Mapping[str, float]
Waiting = Mapping[str, object]

log = structlog.get_logger()


class CountDeltas:
    """Differences between successive counts.

    Args:
        counts: the counts so far, by name.
    """

    def __init__(self, counts: Counts) -> None:
        self._before = counts

    def since(self, counts: Counts) -> dict[str, int]:
        """Return how much each count has grown since the last call, without those that have not grown."""
        added = {name: round(count - self._before.get(name, 0.0)) for name, count in counts.items()}
        self._before = counts
        return {name: count for name, count in added.items() if count}


def total(counter: Collector) -> float:
    """Return the sum of a metric over all its labels."""
    samples = (sample for family in counter.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if not sample.name.endswith("_created"))


def totals(counters: Mapping[str, Collector]) -> Counts:
    """Return the `total` of each metric, by the same names."""
    return {name: total(counter) for name, counter in counters.items()}


def waiting(count: int, oldest_s: float | None, why: str | None) -> dict[str, object]:
    """Return a summary's fields about what waits; empty if nothing does.

    Args:
        count: how many wait.
        oldest_s: for how long the oldest has waited, seconds; None: not known.
        why: what they wait for; None: not known.
    """
    if not count:
        return {}
    known = {"oldest_s": None if oldest_s is None else round(oldest_s, 1), "why": why}
    return {"waiting": count, **{name: value for name, value in known.items() if value is not None}}


async def summarise(event: str, did: Callable[[], Counts], waits: Callable[[], Waiting]) -> None:
    """Log what was done and what waits, once a minute unless there is neither, until cancelled.

    Args:
        event: the log event's name.
        did: returns the counts so far.
        waits: returns the fields about what waits now; see `waiting`.
    """
    progress, pause_s = CountDeltas(did()), FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = EVERY_S
        done, left = progress.since(did()), waits()
        if done or left:
            log.info(event, **done, **left)


Labels = Mapping[str, str]


class Samples:
    """The samples that a process gives at /metrics.

    Args:
        text: in the text format of Prometheus; empty: there are none.

    Attributes:
        families: the names of the metrics, without `_total` and the like.

    Raises:
        ValueError: it is not in that format.
    """

    def __init__(self, text: str) -> None:
        self.families: set[str] = set()
        self._by_name: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            self.families.add(family.name)
            for sample in family.samples:
                self._by_name.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, name: str) -> list[tuple[Labels, float]]:
        """Return the samples of one name, each with its labels and its value."""
        return self._by_name.get(name, [])

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of one name that have these labels; 0 without any."""
        return sum(value for given, value in self.of(name) if labels.items() <= given.items())
