"""Metrics that more than one service has, drops by reason, and once a minute a line of what was done."""

import asyncio
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector

DEVICE_INFO = Gauge(
    "faceferry_device_info",
    "The device that a process is of, for whoever puts those of several together.",
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


FIRST_S = 10.0
"""The first one comes soon, for whoever has just started it and wants to see that it works."""
EVERY_S = 60.0

Counts = Mapping[str, float]
Waiting = Mapping[str, object]

log = structlog.get_logger()


class CountDeltas:
    """Knows what was counted when it was asked last.

    Args:
        counts: what has been counted so far, by name.
    """

    def __init__(self, counts: Counts) -> None:
        self._before = counts

    def since(self, counts: Counts) -> dict[str, int]:
        """Return what has been added to each since, if anything; counts never fall."""
        added = {name: round(count - self._before.get(name, 0.0)) for name, count in counts.items()}
        self._before = counts
        return {name: count for name, count in added.items() if count}


def total(counter: Collector) -> float:
    """Return what a metric has counted, under all of its labels together."""
    samples = (sample for family in counter.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if not sample.name.endswith("_created"))


def totals(counters: Mapping[str, Collector]) -> Counts:
    """Return what each of some metrics has counted; see `total`."""
    return {name: total(counter) for name, counter in counters.items()}


def waiting(count: int, oldest_s: float | None, why: str | None) -> dict[str, object]:
    """Return what a summary says of what waits; nothing if nothing does.

    Args:
        count: how much waits.
        oldest_s: for how long the oldest has.
        why: what is in its way, if something is.
    """
    if not count:
        return {}
    known = {"oldest_s": None if oldest_s is None else round(oldest_s, 1), "why": why}
    return {"waiting": count, **{name: value for name, value in known.items() if value is not None}}


async def summarise(event: str, did: Callable[[], Counts], waits: Callable[[], Waiting]) -> None:
    """Log what was done and what waits, once a minute, where there is something to say; for ever.

    Args:
        event: the line's name.
        did: returns what has been counted so far.
        waits: returns what waits now.
    """
    progress, pause_s = CountDeltas(did()), FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = EVERY_S
        done, left = progress.since(did()), waits()
        if done or left:
            log.info(event, **done, **left)
