"""What a broker says of itself when it lets us in (MQTT 5.0, section 3.2.2.3). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

MAX_PACKET_BYTES = 268_435_460
"""The protocol's own limit."""
MAX_IN_FLIGHT = 2_000
"""QoS 1 messages sent and not yet acknowledged by the broker, if the broker allows as many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A broker's limits.

    Attributes:
        max_packet_bytes: the largest packet it takes.
        in_flight: QoS 1 messages that it may have unacknowledged.
        keep_alive_s: how often it wants to hear of us; 0 for never.
    """

    max_packet_bytes: int = MAX_PACKET_BYTES
    in_flight: int = MAX_IN_FLIGHT
    keep_alive_s: int = 0

    @property
    def words(self) -> str:
        """What it comes to, in words."""
        return f"packets of up to {self.max_packet_bytes / 1000:,.0f} kB"

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """Return the limits out of a CONNACK's properties, by their names without spaces."""
        return cls(
            max_packet_bytes=said.get("MaximumPacketSize", MAX_PACKET_BYTES),
            in_flight=min(MAX_IN_FLIGHT, said.get("ReceiveMaximum", MAX_IN_FLIGHT)),
            keep_alive_s=said.get("ServerKeepAlive") or 0,
        )
