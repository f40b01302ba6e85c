"""One broker, and what was learnt of it over all connections. Pure: time is an argument, in seconds.

How large a packet it accepts, whether large packets reach it, and how long it takes to answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.common.mqtt.broker import Broker
from services.common.mqtt.credentials import Credentials
from services.common.mqtt.liveness import Heartbeat
from services.common.runtime.logging import RepeatFilter

SUSPECT_BYTES = 16_384
"""Smaller packets are not suspected: no known broker has a lower limit."""
SURE_AFTER = 2
"""After so many connections in a row that ended with a large packet in flight, such packets are held back."""
TRIAL_S = 2.0
"""For this long at first, in which the next connection shows whether it lasts without them."""
FIRST_HOLD_S = 60.0
"""For this long when one more connection has ended so; then twice as long each time, up to `MOST_HOLD_S`."""
MOST_HOLD_S = 3600.0
"""The longest time until a large packet is tried again: a broker's limit may be raised at any time."""


class PacketLimit:
    """Learns a broker's packet limit from connections that it ends.

    A broker that names the reason (DISCONNECT with 0x95, packet too large) is believed at once.
    """

    def __init__(self) -> None:
        self._floor = 0  # the smallest packet that seemed to be too large, bytes; 0: none
        self._strikes = 0
        self._until_s = float("-inf")

    def most_bytes(self, now_s: float) -> int | None:
        """Return the largest packet that may be sent now, bytes, or None without a limit."""
        return self._floor - 1 if self._is_held(now_s) else None

    def begin(self, now_s: float) -> None:
        """Note a new connection: it has to last for `TRIAL_S` before what is held back is tried."""
        if self._strikes == SURE_AFTER:
            self._until_s = now_s + TRIAL_S

    def absent(self) -> None:
        """Note a failed attempt to connect: a broker that is gone ended nothing because of a packet."""
        if self._strikes <= SURE_AFTER:
            self._forget()

    def passed(self, size_bytes: int) -> None:
        """Note that a packet was acknowledged."""
        if self._floor and size_bytes >= self._floor:
            self._forget()

    def ended(self, unanswered_bytes: Iterable[int], now_s: float, *, is_said: bool) -> None:
        """Note that a broker has ended a connection.

        Args:
            unanswered_bytes: sizes of the packets in flight.
            now_s: when.
            is_said: whether the broker's reason was that a packet was too large.
        """
        largest = max(unanswered_bytes, default=0)
        if not is_said and self._is_held(now_s):
            return  # nothing large was sent: there was another reason
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
"""A larger message fills at least one network packet."""
PROBATION_S = 5.0
"""For this long a connection is not relied on that follows one that fell silent."""
SHORT_S = 60.0
"""A connection that fell silent after this, with nothing large in flight, says nothing about the path."""
SEGMENTS_BYTES = (1_220, 536, None)
"""Segment sizes, tried in turn: the least that IPv6 guarantees (1,280 bytes, RFC 8200, less the headers), the
least of IPv4 (576 bytes, RFC 9293 3.7.1), and again what the interface allows."""

_BLACK_HOLE = (
    "small packets pass, large ones {do} not: on the way something has a smaller MTU, and does not say so"
)


class PathMtu:
    """Notices a path MTU black hole (RFC 2923), and asks for smaller TCP segments.

    A router that drops packets too large for the next link reports it by ICMP, and TCP sends smaller ones.
    Where ICMP is filtered, a connection comes up, because all packets are small at first, and falls silent
    with the first face; so does each later one. Tunnels, PPPoE and mobile networks are where this is seen.

    Attributes:
        segment_bytes: TCP's maximum segment size for the next connection, in both directions, because it is
            announced to the other side; None: what the interface allows.
    """

    def __init__(self) -> None:
        self.segment_bytes: int | None = None
        self._doubts = 0
        self._is_out_doubted = False
        self._is_on_probation = False
        self._has_sent = self._has_received = False

    def begin(self) -> None:
        """Note a new connection that is up."""
        self._has_sent = self._has_received = False

    def sent(self) -> None:
        """Note that a large message of ours was acknowledged."""
        self._has_sent = True
        self._forget()

    def received(self) -> None:
        """Note that a large message has come in."""
        self._has_received = True
        if not self._is_out_doubted:
            self._forget()

    def ended(self, *, is_silent: bool, is_stuck: bool, up_s: float) -> None:
        """Note how a connection ended that had been up.

        Args:
            is_silent: whether it ended because nothing was heard of the broker.
            is_stuck: whether a large message of ours was in flight.
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
        # A single silence with nothing large in flight may as well be the broker's fault as the path's.
        self._is_on_probation = is_stuck or self._doubts > 1

    def _forget(self) -> None:
        self._doubts = 0
        self._is_on_probation = False

    @property
    def problem(self) -> str | None:
        """What seems to be wrong with the path, or None."""
        return _BLACK_HOLE.format(do="may" if self._doubts == 1 else "do") if self._doubts else None

    def why_not_ready(self, up_s: float) -> str | None:
        """Return None while the connection may be relied on, else why not.

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
"""Attempts before the timeout grows: what broke the last connection may break the first new ones."""
TIMES_USUAL = 4
"""The timeout is at least so many times what the last connection took."""


class ConnectTimeout:
    """How long to wait for a connection: longer after failed attempts, and for a broker that is far away."""

    def __init__(self) -> None:
        self._tries = 0
        self._usual_s = 0.0

    def next_s(self) -> float:
        """Return the timeout of the next attempt, seconds."""
        doublings = max(0, self._tries - SHORT_TRIES + 1)
        wanted_s = max(FIRST_TIMEOUT_S, TIMES_USUAL * self._usual_s) * 2.0**doublings
        self._tries = min(self._tries + 1, SHORT_TRIES + 8)
        return min(wanted_s, MOST_TIMEOUT_S)

    def worked(self, took_s: float) -> None:
        """Note that an attempt succeeded after `took_s` seconds."""
        self._usual_s = took_s
        self._tries = 0


@dataclass
class Endpoint:
    """One broker, and what was learnt of it.

    Attributes:
        broker: its address and what a connection needs.
        credentials: its TLS context and certificates.
        connect_timeout: how long to wait for a connection.
        heartbeat: whether it answers.
        path_mtu: whether large packets reach it.
        packet_limit: how large a packet it accepts, where it does not say so.
        lacks: features that it turned out not to offer, although its CONNACK did not say so; names as in
            `Limits.lacks`.
        fault: why it was last left although it accepts connections; None once it works.
        log_filter: which reasons for a lost connection are logged.
        logged: what was logged of it once and for all.
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
    log_filter: RepeatFilter = field(default_factory=RepeatFilter)
    logged: set[str] = field(default_factory=set)
    why_down: str = "no connection was tried yet"

    def is_first_time(self, what: str) -> bool:
        """Return whether something was not logged yet of this broker; if so, it counts as logged."""
        if what in self.logged:
            return False
        self.logged.add(what)
        return True

    @property
    def address(self) -> str:
        """Host and port, for logs and metrics."""
        return self.broker.address
