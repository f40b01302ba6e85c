"""The brokers that a link may use, and which of them it does."""

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
"""A broker that served for so long, and then said goodbye or broke, is tried once more before another is."""
LONG_S = 60.0
"""One that served for so long is not blamed for what was before."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended, or why there was none.

    Attributes:
        why: in words.
        client: the connection.
        unanswered_bytes: sizes of the packets that were under way.
        is_left: whether we left it, for it was of no use.
    """

    why: str
    client: Connection
    unanswered_bytes: Sequence[int]
    is_left: bool


class BrokerPool:
    """Several brokers, of which one is used.

    Args:
        link: the link's name.
        brokers: one at least.
        identity: what our own order of them is made from.
    """

    def __init__(self, link: str, brokers: Sequence[Broker], identity: str) -> None:
        self._link = link
        self._identity = identity
        self._all = [Endpoint(each, Credentials(link, each)) for each in brokers]
        self.failover = Failover(identity, [each.address for each in brokers], random.random())
        self.at = self.failover.preferred
        for endpoint in self._all:
            MQTT_LINK_UP.labels(link, endpoint.address).set(0)  # one that never comes up is down, not unknown

    @property
    def current(self) -> Endpoint:
        """The broker that is used, or was tried last."""
        return self._all[self.at]

    @property
    def why_down(self) -> str:
        """Why there is no connection to any."""
        return "; ".join(f"{endpoint.address}: {endpoint.why_down}" for endpoint in self._all)

    async def watch_certificates(self) -> None:
        """Say when a certificate of one is about to expire, until cancelled."""
        await asyncio.gather(*(endpoint.credentials.watch() for endpoint in self._all))

    async def can_be_had(self, at: int) -> bool:
        """Say whether a broker lets us in, by a connection of another id, which the present one survives."""
        try:
            await probe_endpoint(self._all[at], self._identity)
        except BrokerUnavailable:
            self.failover.failed(at, time.monotonic())
            return False
        return True

    def turn(self, now_s: float) -> None:
        """Go on to the one to try now."""
        self.at = self.failover.next(now_s)

    def up(self, now_s: float, limits: Limits) -> None:
        """Note that there is a connection, to a broker that has said so much of itself."""
        self.current.path_mtu.begin()
        self.current.packet_limit.begin(now_s)
        self.current.news.reset()
        self.failover.connected(self.at, now_s)
        MQTT_LINK_UP.labels(self._link, self.current.address).set(1)
        log.info("mqtt.link_up", link=self._link, broker=self.current.address)
        for what, words in limits.lacks.items():
            if self.current.is_first_time(f"lacks {what}"):
                log.warning("mqtt.broker_lacks", link=self._link, broker=self.current.address, lacks=words)

    def down(self) -> None:
        """Note that there is none any more."""
        MQTT_LINK_UP.labels(self._link, self.current.address).set(0)

    def ended(self, end: End, up_s: float, now_s: float) -> None:
        """Note how a connection ended, or why there was none.

        Args:
            end: how.
            up_s: how long it was up; 0 if it never was.
            now_s: the time.
        """
        endpoint, client = self.current, end.client
        if up_s > LONG_S and not end.is_left:
            self.failover.worked(self.at)
        lacking = LACKING.get(client.code or 0)
        if end.is_left:
            endpoint.fault = end.why
            self.failover.left(self.at, now_s)
        elif lacking is not None and lacking not in endpoint.lacks:
            endpoint.lacks |= {lacking}  # it is asked for less at once
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
        if endpoint.news.is_new(end.why, now_s):
            log.warning("mqtt.link_down", link=self._link, broker=endpoint.address, error=end.why)

    def move(self, at: int) -> None:
        """Have a broker tried next, for it is a better one."""
        self.failover.try_next(at)
        log.info("mqtt.link_moves", link=self._link, broker=self.current.address, to=self._all[at].address)

    def wait_s(self, backoff: Backoff, now_s: float) -> float:
        """Return how long to wait before the next try: hardly, if it is another's turn."""
        wait_s = backoff.next_s()
        if self.failover.has_other(self.at, now_s):
            return min(wait_s, random.uniform(MOVE_ON_S / 2, MOVE_ON_S))
        return wait_s

    def note_path(self, up_s: float, *, is_silent: bool, is_stuck: bool) -> None:
        """Learn from a connection's end whether large packets reach the broker; see `Path.ended`."""
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
    """Looks from time to time whether a broker that we would rather use can be had, beside what goes on.

    Leaving it ends a look that has begun.

    Args:
        failover: says when to look, and at which.
        at: the broker that is used.
        look: says of a broker whether it lets us in.
    """

    def __init__(self, failover: Failover, at: int, look: Callable[[int], Awaitable[bool]]) -> None:
        self._failover = failover
        self._at = at
        self._look = look
        self._looking: asyncio.Task[int | None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def found(self, now_s: float) -> int | None:
        """Return a better broker that can be had; nothing as long as none was found."""
        if self._looking is None:
            if (at := self._failover.better(self._at, now_s)) is not None:
                self._looking = asyncio.create_task(self._see(at), name="mqtt.look")
            return None
        if not self._looking.done():
            return None
        found, self._looking = self._looking.result(), None
        return found

    async def _see(self, at: int) -> int | None:
        return at if await self._look(at) else None
