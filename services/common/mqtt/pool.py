"""The brokers that a link may use, and which one it does use; logs and counts their state."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from services.common.mqtt.broker import Broker
from services.common.mqtt.connection import Connection
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.endpoint import Endpoint
from services.common.mqtt.failover import Failover
from services.common.mqtt.limits import Limits
from services.common.mqtt.reasons import LACKING, PACKET_TOO_LARGE, SERVER_MOVED, USE_ANOTHER_SERVER
from services.common.mqtt.session import BrokerUnavailable, probe_endpoint
from services.common.runtime.concurrency import Backoff
from services.common.runtime.metrics import MQTT_LINK_UP

MOVE_ON_S = 0.2
"""The longest wait before another broker is tried."""
SERVED_S = 15.0
"""A broker whose connection lasted this long and did not end by silence is tried again before others."""
LONG_S = 60.0
"""Earlier failures of a broker are forgotten once a connection has lasted this long."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended, or why an attempt failed.

    Attributes:
        why: the reason, in words.
        client: the connection.
        unanswered_bytes: sizes of the packets in flight.
        is_left: whether we left it, because the broker was useless.
    """

    why: str
    client: Connection
    unanswered_bytes: Sequence[int]
    is_left: bool


class BrokerPool:
    """Several brokers, of which one is used at a time.

    Args:
        link: the link's name.
        brokers: at least one.
        identity: `{service}-{device}`, from which the order of preference is made.

    Attributes:
        failover: decides which broker is next.
        at: the number of the broker that is used, or was tried last.
    """

    def __init__(self, link: str, brokers: Sequence[Broker], identity: str) -> None:
        self._link = link
        self._identity = identity
        self._all = [Endpoint(each, Credentials(link, each)) for each in brokers]
        self.failover = Failover(identity, [each.address for each in brokers], random.random())
        self.at = self.failover.preferred
        for endpoint in self._all:
            # A broker that never comes up is down, not unknown.
            MQTT_LINK_UP.labels(link, endpoint.address).set(0)

    @property
    def current(self) -> Endpoint:
        """The broker that is used, or was tried last."""
        return self._all[self.at]

    @property
    def why_down(self) -> str:
        """Why there is no connection to any of them, in words."""
        return "; ".join(f"{endpoint.address}: {endpoint.why_down}" for endpoint in self._all)

    async def watch_certificates(self) -> None:
        """Log certificates that expire soon, until cancelled."""
        await asyncio.gather(*(endpoint.credentials.watch() for endpoint in self._all))

    async def is_accepting(self, at: int) -> bool:
        """Return whether a broker accepts connections, by one with a client id of its own."""
        try:
            await probe_endpoint(self._all[at], self._identity)
        except BrokerUnavailable:
            self.failover.failed(at, time.monotonic())
            return False
        return True

    def move_on(self, now_s: float) -> None:
        """Move on to the broker to try now."""
        self.at = self.failover.next(now_s)

    def up(self, now_s: float, limits: Limits) -> None:
        """Note that there is a connection, to a broker with these limits."""
        self.current.path_mtu.begin()
        self.current.packet_limit.begin(now_s)
        self.current.log_filter.reset()
        self.failover.connected(self.at, now_s)
        MQTT_LINK_UP.labels(self._link, self.current.address).set(1)
        log.info("mqtt.link_up", link=self._link, broker=self.current.address)
        for what, words in limits.lacks.items():
            if self.current.is_first_time(f"lacks {what}"):
                log.warning("mqtt.broker_lacks", link=self._link, broker=self.current.address, lacks=words)

    def down(self) -> None:
        """Note that the connection has ended."""
        MQTT_LINK_UP.labels(self._link, self.current.address).set(0)

    def ended(self, end: End, up_s: float, now_s: float) -> None:
        """Note how a connection ended, or why an attempt failed.

        Args:
            end: how and why.
            up_s: for how long it was up, seconds; 0 if it never was.
            now_s: the time, steady clock.
        """
        endpoint, client = self.current, end.client
        if up_s > LONG_S and not end.is_left:
            self.failover.worked(self.at)
        lacking = LACKING.get(client.code or 0)
        if end.is_left:
            endpoint.fault = end.why
            self.failover.left(self.at, now_s)
        elif lacking is not None and lacking not in endpoint.lacks:
            endpoint.lacks |= {lacking}  # the next attempt follows at once, without that feature
            self.failover.try_next(self.at)
        elif client.is_silent or up_s < SERVED_S:
            self.failover.failed(self.at, now_s)
        if not up_s and client.code is None:
            endpoint.packet_limit.absent()
        if not client.is_silent and not end.is_left and up_s:
            endpoint.packet_limit.ended(end.unanswered_bytes, now_s, is_said=client.code == PACKET_TOO_LARGE)
        if client.code in (USE_ANOTHER_SERVER, SERVER_MOVED):
            self.failover.follow_reference(client.reference)
        endpoint.why_down = end.why
        if endpoint.log_filter.is_new(end.why, now_s):
            log.warning("mqtt.link_down", link=self._link, broker=endpoint.address, error=end.why)

    def move(self, at: int) -> None:
        """Have a preferred broker tried next."""
        self.failover.try_next(at)
        log.info("mqtt.link_moves", link=self._link, broker=self.current.address, to=self._all[at].address)

    def wait_s(self, backoff: Backoff, now_s: float) -> float:
        """Return how long to wait before the next attempt, seconds: hardly, if it goes to another broker."""
        wait_s = backoff.next_s()
        if self.failover.has_other(self.at, now_s):
            return min(wait_s, random.uniform(MOVE_ON_S / 2, MOVE_ON_S))
        return wait_s

    def note_path(self, up_s: float, *, is_silent: bool, is_stuck: bool) -> None:
        """Learn from a connection's end whether large packets reach the broker; see `PathMtu.ended`."""
        path = self.current.path_mtu
        before = path.segment_bytes
        path.ended(is_silent=is_silent, is_stuck=is_stuck, up_s=up_s)
        if path.segment_bytes != before:
            log.warning(
                "mqtt.segments",
                link=self._link,
                broker=self.current.address,
                most_bytes=path.segment_bytes,
            )


class Failback:
    """Probes preferred brokers from time to time, while another one is used.

    Leaving the context cancels a probe that has begun.

    Args:
        failover: says when to probe, and which broker.
        at: the broker that is used.
        probe: returns whether a broker accepts connections.
    """

    def __init__(self, failover: Failover, at: int, probe: Callable[[int], Awaitable[bool]]) -> None:
        self._failover = failover
        self._at = at
        self._probe = probe
        self._probing: asyncio.Task[int | None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    def found(self, now_s: float) -> int | None:
        """Begin a probe when one is due; return a preferred broker when its probe has succeeded."""
        if self._probing is None:
            if (at := self._failover.better(self._at, now_s)) is not None:
                self._probing = asyncio.create_task(self._accepting(at), name="mqtt.probe")
            return None
        if not self._probing.done():
            return None
        found, self._probing = self._probing.result(), None
        return found

    async def _accepting(self, at: int) -> int | None:
        return at if await self._probe(at) else None
