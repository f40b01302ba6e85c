"""The brokers that a link may use, and which of them it does."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from services.common.mqtt.asking import BrokerUnavailable, ask
from services.common.mqtt.broker import Broker
from services.common.mqtt.connection import Connection
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.limits import Limits
from services.common.mqtt.line import Line
from services.common.mqtt.reasons import LACKING, PACKET_TOO_LARGE, SERVER_MOVED, USE_ANOTHER_SERVER
from services.common.mqtt.roster import Roster
from services.common.runtime.metrics import MQTT_LINK_UP
from services.common.runtime.queues import Backoff

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


class Lines:
    """Several brokers, of which one is used.

    Args:
        link: the link's name.
        brokers: one at least.
        identity: what our own order of them is made from.
    """

    def __init__(self, link: str, brokers: Sequence[Broker], identity: str) -> None:
        self._link = link
        self._identity = identity
        self._all = [Line(each, Credentials(link, each)) for each in brokers]
        self.roster = Roster(identity, [each.address for each in brokers], random.random())
        self.at = self.roster.home
        for line in self._all:
            MQTT_LINK_UP.labels(link, line.address).set(0)  # one that never comes up is down, not unknown

    def __getitem__(self, at: int) -> Line:
        return self._all[at]

    def __iter__(self) -> Iterator[Line]:
        return iter(self._all)

    @property
    def current(self) -> Line:
        """The broker that is used, or was tried last."""
        return self._all[self.at]

    @property
    def why_down(self) -> str:
        """Why there is no connection to any."""
        return "; ".join(f"{line.address}: {line.why_down}" for line in self._all)

    async def can_be_had(self, at: int) -> bool:
        """Say whether a broker lets us in, by a connection of another id, which the present one survives."""
        try:
            await ask(self._all[at], self._identity)
        except BrokerUnavailable:
            self.roster.failed(at, time.monotonic())
            return False
        return True

    def turn(self, now_s: float) -> None:
        """Go on to the one to try now."""
        self.at = self.roster.next(now_s)

    def up(self, now_s: float, limits: Limits) -> None:
        """Note that there is a connection, to a broker that has said so much of itself."""
        self.current.path.begin()
        self.current.packet_limit.begin(now_s)
        self.current.news.over()
        self.roster.connected(self.at, now_s)
        MQTT_LINK_UP.labels(self._link, self.current.address).set(1)
        log.info("mqtt.link_up", link=self._link, broker=self.current.address)
        for what, words in limits.lacks.items():
            if self.current.says_news(f"lacks {what}"):
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
        line, client = self.current, end.client
        if up_s > LONG_S and not end.is_left:
            self.roster.worked(self.at)
        lacking = LACKING.get(client.code or 0)
        if end.is_left:
            line.fault = end.why
            self.roster.left(self.at, now_s)
        elif lacking is not None and lacking not in line.lacks:
            line.lacks |= {lacking}  # it is asked for less at once
            self.roster.point_at(self.at)
        elif client.is_silent or up_s < SERVED_S:
            self.roster.failed(self.at, now_s)
        if not up_s and client.code is None:
            line.packet_limit.absent()
        if not client.is_silent and not end.is_left and up_s:
            line.packet_limit.ended(end.unanswered_bytes, now_s, is_said=client.code == PACKET_TOO_LARGE)
        if client.code in (USE_ANOTHER_SERVER, SERVER_MOVED):
            self.roster.refer(client.reference)
        line.why_down = end.why
        if line.news.is_news(end.why, now_s):
            log.warning("mqtt.link_down", link=self._link, broker=line.address, error=end.why)

    def move(self, at: int) -> None:
        """Have a broker tried next, for it is a better one."""
        self.roster.point_at(at)
        log.info("mqtt.link_moves", link=self._link, broker=self.current.address, to=self._all[at].address)

    def wait_s(self, backoff: Backoff, now_s: float) -> float:
        """Return how long to wait before the next try: hardly, if it is another's turn."""
        wait_s = backoff.next_s()
        if self.roster.has_other(self.at, now_s):
            return min(wait_s, random.uniform(MOVE_ON_S / 2, MOVE_ON_S))
        return wait_s

    def note_path(self, up_s: float, *, is_silent: bool, is_stuck: bool) -> None:
        """Learn from a connection's end whether large packets reach the broker; see `Path.ended`."""
        path = self.current.path
        before = path.segment_bytes
        path.ended(is_silent=is_silent, is_stuck=is_stuck, up_s=up_s)
        if path.segment_bytes != before:
            log.warning(
                "mqtt.segments",
                link=self._link,
                broker=self.current.address,
                most_bytes=path.segment_bytes,
            )
