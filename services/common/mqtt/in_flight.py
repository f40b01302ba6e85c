"""QoS 1 messages that the broker has not acknowledged yet. Pure: time is an argument, in seconds."""

from collections.abc import Callable
from dataclasses import dataclass

from services.common.mqtt.endpoint import LARGE_BYTES

Acknowledged = Callable[[str | None], None]
"""Called with None when the broker has a message, or with its reason for refusing it: `not_authorized`,
`quota_exceeded`, ..., or `NO_SUBSCRIBERS`."""
NO_SUBSCRIBERS = "no_matching_subscribers"
"""The broker has accepted a message and dropped it, because it has no subscriber at the moment."""
PUBACK_S = 10.0
"""A broker that has read a message and acknowledges nothing for this long is useless."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message in flight.

    Attributes:
        packet_bytes: its packet's size.
        at_s: when it was handed to the connection.
        is_large: whether it has more than `LARGE_BYTES`.
        then: called with the broker's answer.
    """

    packet_bytes: int
    at_s: float
    is_large: bool
    then: Acknowledged | None


class InFlight:
    """QoS 1 messages in flight, by the packet identifiers that the connection gives them."""

    def __init__(self) -> None:
        self._waiting: dict[int, SentMessage] = {}
        self._read_by_s = float("inf")

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def has_large(self) -> bool:
        """Whether a large message is among them."""
        return any(each.is_large for each in self._waiting.values())

    @property
    def sizes(self) -> list[int]:
        """Their packets' sizes, bytes."""
        return [each.packet_bytes for each in self._waiting.values()]

    def add(
        self, mid: int, payload_bytes: int, packet_bytes: int, now_s: float, then: Acknowledged | None
    ) -> None:
        """Note a message that was handed to the connection.

        Args:
            mid: its packet identifier.
            payload_bytes: its payload's size.
            packet_bytes: its packet's size.
            now_s: the time.
            then: called with the broker's answer.
        """
        self._waiting[mid] = SentMessage(packet_bytes, now_s, payload_bytes > LARGE_BYTES, then)

    def forget(self) -> None:
        """Forget all messages: the connection is lost, and no answer will come."""
        self._waiting.clear()
        self._read_by_s = float("inf")

    def answered(self, mid: int) -> SentMessage | None:
        """Remove and return the message that an answer is for, or None for one of QoS 0."""
        if (published := self._waiting.pop(mid, None)) is not None:
            self._read_by_s = float("inf")
        return published

    def is_ignored(self, answered_until_s: float, now_s: float) -> bool:
        """Return whether the broker has read a message and acknowledged nothing for `PUBACK_S`.

        Time before it has read the message does not count: there may be a long queue to the broker.

        Args:
            answered_until_s: what was sent before then the broker has read; see `Connection.read_until_s`.
            now_s: the time.
        """
        oldest = next(iter(self._waiting.values()), None)
        if oldest is None or answered_until_s < oldest.at_s:
            return False
        self._read_by_s = min(self._read_by_s, now_s)
        return now_s - self._read_by_s > PUBACK_S
