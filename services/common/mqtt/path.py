"""Whether large packets pass where small ones do. Pure: durations are arguments."""

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


class Path:
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
        """What seems to be wrong with it; nothing while nothing does."""
        return _HOLE.format(do="may" if self._doubts == 1 else "do") if self._doubts else None

    def why_not_ready(self, up_s: float) -> str | None:
        """Return nothing while it may be relied on, else why not.

        Args:
            up_s: how long the connection has been up.
        """
        if not self._is_on_probation or up_s > PROBATION_S:
            return None
        return (
            self.problem
            or "the connection before fell silent, and through this one nothing large has passed yet"
        )
