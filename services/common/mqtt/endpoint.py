"""What is remembered of one broker, over however many connections.

How large a packet it takes, whether large ones pass, how long it lets wait. Time is an argument.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.common.mqtt.broker import Broker
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.liveness import Heartbeat
from services.common.runtime.logging import RepeatFilter

SUSPECT_BYTES = 16_384
"""No broker is known that takes less; what is smaller is not the reason."""
SURE_AFTER = 2
"""So many connections in a row that ended with something large under way have it held back, for"""
TRIAL_S = 2.0
"""so long, in which the connection shows whether it stands without; ending once more makes it a rule, for"""
FIRST_HOLD_S = 60.0
"""so long, and twice as long each time, up to"""
MOST_HOLD_S = 3600.0
"""so long: limits are raised, and nobody tells us."""


class PacketLimit:
    """Learns from connections that end what a broker does not take.

    One that is told in so many words (DISCONNECT with 0x95) is believed at once.
    """

    def __init__(self) -> None:
        self._floor = 0  # the smallest that seemed to be too large
        self._strikes = 0
        self._until_s = float("-inf")

    def most_bytes(self, now_s: float) -> int | None:
        """Return the largest packet that may be sent now, or None where none is known to be too large."""
        return self._floor - 1 if self._is_held(now_s) else None

    def begin(self, now_s: float) -> None:
        """Start with a new connection: it has to stand for a while before what is held is tried."""
        if self._strikes == SURE_AFTER:
            self._until_s = now_s + TRIAL_S

    def absent(self) -> None:
        """Note that there was no connection: who is away ended the last one for that, not for a packet."""
        if self._strikes <= SURE_AFTER:
            self._forget()

    def passed(self, size_bytes: int) -> None:
        """Note that a packet has come through."""
        if self._floor and size_bytes >= self._floor:
            self._forget()

    def ended(self, unanswered_bytes: Iterable[int], now_s: float, *, is_said: bool) -> None:
        """Note that a broker has ended a connection.

        Args:
            unanswered_bytes: sizes of the packets that were under way.
            now_s: when.
            is_said: it has said that one was too large.
        """
        largest = max(unanswered_bytes, default=0)
        if not is_said and self._is_held(now_s):
            return  # it was not that
        if largest < SUSPECT_BYTES and not (is_said and largest):
            if not is_said:
                self._forget()
            return
        self._floor = min(self._floor or largest, largest)
        self._strikes = max(self._strikes + 1, SURE_AFTER + 1 if is_said else 0)
        doublings = min(self._strikes - SURE_AFTER - 1, 10)
        hold_s = min(FIRST_HOLD_S * 2.0**doublings, MOST_HOLD_S) if doublings >= 0 else TRIAL_S
        self._until_s = now_s + hold_s

    def _is_held(self, now_s: float) -> bool:
        return self._strikes >= SURE_AFTER and now_s < self._until_s

    def _forget(self) -> None:
        self._floor = self._strikes = 0


LARGE_BYTES = 1_500
"""A message that is larger fills a packet at least."""
PROBATION_S = 5.0
"""So long a connection is watched that follows one that fell silent."""
SHORT_S = 60.0
"""A connection on which nothing large was under way and that fell silent later says nothing of the way."""
SEGMENTS_BYTES = (1_220, 536, None)
"""What is tried in turn: the least that IPv6 lets a path carry (1,280 bytes, RFC 8200, less the headers), the
least of IPv4 (576 bytes, RFC 9293 3.7.1), and again what the interface allows."""

_HOLE = "small packets pass, large ones {do} not: on the way something has a smaller MTU, and does not say so"


class PathMtu:
    """Notices a way that swallows large packets, and asks for smaller ones.

    A router that drops what is too large for the next link says so by ICMP, and TCP sends less at a time;
    where that is filtered, a connection comes up, for all is small at first, and falls silent with the first
    face. So does the next, for ever. A tunnel, PPPoE and mobile networks are where it is met.

    Attributes:
        segment_bytes: how much TCP may put into a packet of the next connection; nothing for as much as the
            interface allows. It holds for both directions, for it is told to the other side.
    """

    def __init__(self) -> None:
        self.segment_bytes: int | None = None
        self._doubts = 0
        self._is_out_doubted = False
        self._is_on_probation = False
        self._has_sent = self._has_received = False

    def begin(self) -> None:
        """Start with a new connection, which is up."""
        self._has_sent = self._has_received = False

    def sent(self) -> None:
        """Note that something large of ours has come through."""
        self._has_sent = True
        self._forget()

    def received(self) -> None:
        """Note that something large has come in."""
        self._has_received = True
        if not self._is_out_doubted:
            self._forget()

    def ended(self, *, is_silent: bool, is_stuck: bool, up_s: float) -> None:
        """Note how a connection ended that had been up.

        Args:
            is_silent: by a silence, or because one side has said so.
            is_stuck: something large of ours was under way.
            up_s: how long it had been up.
        """
        self._is_on_probation = False
        if not is_silent:
            return
        is_swallowed = not self._has_sent if is_stuck else up_s < SHORT_S and not self._has_received
        if is_swallowed:
            self.segment_bytes = SEGMENTS_BYTES[self._doubts % len(SEGMENTS_BYTES)]
            self._doubts += 1
            self._is_out_doubted = is_stuck
        elif not is_stuck:
            self._doubts = 0
        # One silence of a connection that had nothing large to carry is a broker's as likely as the way's.
        self._is_on_probation = is_stuck or self._doubts > 1

    def _forget(self) -> None:
        self._doubts = 0
        self._is_on_probation = False

    @property
    def problem(self) -> str | None:
        """What seems to be wrong with it, or None while nothing does."""
        return _HOLE.format(do="may" if self._doubts == 1 else "do") if self._doubts else None

    def why_not_ready(self, up_s: float) -> str | None:
        """Return None while it may be relied on, else why not.

        Args:
            up_s: how long the connection has been up.
        """
        if not self._is_on_probation or up_s > PROBATION_S:
            return None
        return (
            self.problem
            or "the connection before fell silent, and through this one nothing large has passed yet"
        )


FIRST_TIMEOUT_S = 3.5
MOST_TIMEOUT_S = 20.0
SHORT_TRIES = 3
"""So many tries are short: what swallowed the connection before may swallow the first of the new ones."""
TIMES_USUAL = 4


class ConnectTimeout:
    """Short while a broker should be there, long where nothing has come of that, or where it is far away."""

    def __init__(self) -> None:
        self._tries = 0
        self._usual_s = 0.0

    def next_s(self) -> float:
        """Return how long to wait this time."""
        doublings = max(0, self._tries - SHORT_TRIES + 1)
        wanted_s = max(FIRST_TIMEOUT_S, TIMES_USUAL * self._usual_s) * 2.0**doublings
        self._tries = min(self._tries + 1, SHORT_TRIES + 8)
        return min(wanted_s, MOST_TIMEOUT_S)

    def worked(self, took_s: float) -> None:
        """Learn how long it takes here."""
        self._usual_s = took_s
        self._tries = 0


@dataclass
class Endpoint:
    """One broker, and how it was to talk to it.

    Attributes:
        broker: where it is.
        credentials: what it is shown.
        connect_timeout: how long it is waited for.
        heartbeat: whether it is there.
        path_mtu: whether large packets reach it.
        packet_limit: how large a packet it takes, where it does not say.
        lacks: what it is known not to offer, though it does not say so when it lets us in.
        fault: what made us leave it, until it works.
        news: what was said of why it cannot be had.
        said: what was said of it once and for all.
        why_down: why there is no connection; out of date while there is one.
    """

    broker: Broker
    credentials: Credentials
    connect_timeout: ConnectTimeout = field(default_factory=ConnectTimeout)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    path_mtu: PathMtu = field(default_factory=PathMtu)
    packet_limit: PacketLimit = field(default_factory=PacketLimit)
    lacks: frozenset[str] = frozenset()
    fault: str | None = None
    news: RepeatFilter = field(default_factory=RepeatFilter)
    said: set[str] = field(default_factory=set)
    why_down: str = "no connection was tried yet"

    def is_first_time(self, what: str) -> bool:
        """Say whether something was not said yet of this broker; if so, it counts as said."""
        if what in self.said:
            return False
        self.said.add(what)
        return True

    @property
    def address(self) -> str:
        """Host and port, for logs and metrics."""
        return self.broker.address
