"""What was published and has no acknowledgement yet. Pure: time is an argument."""

from collections.abc import Callable
from dataclasses import dataclass

from services.common.mqtt.endpoint import LARGE_BYTES

Acknowledged = Callable[[str | None], None]
"""Is told that the broker has a message, or why it has refused it: `not_authorized`, `quota_exceeded`, ...;
or `NO_SUBSCRIBERS`."""
NO_SUBSCRIBERS = "no_matching_subscribers"
"""The broker has taken a message, and dropped it, for nobody has subscribed to it just now."""
PUBACK_S = 10.0
"""A broker that has read a message, and acknowledges nothing for so long, is of no use."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message under way.

    Attributes:
        packet_bytes: how large it is.
        at_s: when it was handed to the connection.
        is_large: whether it fills packets of the network.
        then: is told of the answer.
    """

    packet_bytes: int
    at_s: float
    is_large: bool
    then: Acknowledged | None


class InFlight:
    """QoS 1 messages that are under way to the broker, by the numbers that the connection gives them."""

    def __init__(self) -> None:
        self._waiting: dict[int, SentMessage] = {}
        self._read_by_s = float("inf")

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def has_large(self) -> bool:
        """Whether a large one is among them."""
        return any(each.is_large for each in self._waiting.values())

    @property
    def sizes(self) -> list[int]:
        """How large they are, in bytes."""
        return [each.packet_bytes for each in self._waiting.values()]

    def add(
        self, mid: int, payload_bytes: int, packet_bytes: int, now_s: float, then: Acknowledged | None
    ) -> None:
        """Note a message that was handed to the connection."""
        self._waiting[mid] = SentMessage(packet_bytes, now_s, payload_bytes > LARGE_BYTES, then)

    def forget(self) -> None:
        """Forget all: the connection is lost, and no answer comes."""
        self._waiting.clear()
        self._read_by_s = float("inf")

    def answered(self, mid: int) -> SentMessage | None:
        """Return the message that an answer is for, which is under way no more, or None of QoS 0."""
        if (published := self._waiting.pop(mid, None)) is not None:
            self._read_by_s = float("inf")
        return published

    def is_ignored(self, answered_until_s: float, now_s: float) -> bool:
        """Say whether the broker has read a message and acknowledged nothing for too long.

        Before, messages may have been in a long queue to the broker.

        Args:
            answered_until_s: what was sent before then the broker has read: it has answered what was asked
                behind it.
            now_s: the time.
        """
        oldest = next(iter(self._waiting.values()), None)
        if oldest is None or answered_until_s < oldest.at_s:
            return False
        self._read_by_s = min(self._read_by_s, now_s)
        return now_s - self._read_by_s > PUBACK_S
