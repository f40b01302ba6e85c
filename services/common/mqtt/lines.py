"""The brokers that a link may use, and which of them it does."""

import random
from collections.abc import Iterator, Sequence

import structlog

from services.common.backoff import Backoff
from services.common.broker import Broker
from services.common.credentials import Credentials
from services.common.metrics import MQTT_LINK_UP
from services.common.mqtt.line import Line
from services.common.mqtt.roster import Roster

MOVE_ON_S = 0.2
"""The longest wait before another broker is tried."""
SERVED_S = 15.0
"""A broker that served for so long, and then said goodbye or broke, is tried once more before another is."""
LONG_S = 60.0
"""One that served for so long is not blamed for what was before."""

log = structlog.get_logger()


class Lines:
    """Several brokers, of which one is used.

    Args:
        link: the link's name.
        brokers: one at least.
        identity: what our own order of them is made from.
    """

    def __init__(self, link: str, brokers: Sequence[Broker], identity: str) -> None:
        self._link = link
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

    def turn(self, now_s: float) -> None:
        """Go on to the one to try now."""
        self.at = self.roster.next(now_s)

    def up(self, now_s: float) -> None:
        """Note that there is a connection."""
        self.current.path.begin()
        self.current.news.over()
        self.roster.connected(self.at, now_s)
        MQTT_LINK_UP.labels(self._link, self.current.address).set(1)
        log.info("mqtt.link_up", link=self._link, broker=self.current.address)

    def down(self) -> None:
        """Note that there is none any more."""
        MQTT_LINK_UP.labels(self._link, self.current.address).set(0)

    def ended(self, why: str, up_s: float, now_s: float, *, is_silent: bool) -> None:
        """Note how a connection ended, or why there was none.

        Args:
            why: in words.
            up_s: how long it was up; 0 if it never was.
            now_s: the time.
            is_silent: because nothing more was heard.
        """
        if up_s > LONG_S:
            self.roster.worked(self.at)
        if is_silent or up_s < SERVED_S:
            self.roster.failed(self.at, now_s)
        self.current.why_down = why
        if self.current.news.is_news(why, now_s):
            log.warning("mqtt.link_down", link=self._link, broker=self.current.address, error=why)

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
