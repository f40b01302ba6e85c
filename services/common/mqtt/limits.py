"""A broker's limits, as its CONNACK gives them (MQTT 5.0, section 3.2.2.3). Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

MAX_PACKET_BYTES = 268_435_460
"""The protocol's own limit."""
MAX_IN_FLIGHT = 2_000
"""QoS 1 messages that may be unacknowledged by the broker, if it allows as many."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A broker's limits.

    Attributes:
        max_packet_bytes: the largest packet it accepts.
        in_flight: QoS 1 messages that it may have unacknowledged.
        keep_alive_s: the keep-alive that it asks for; 0: it leaves that to the client.
        has_retain: whether it keeps retained messages.
        max_qos: the highest quality of service it accepts.
        has_shared: whether clients may share a subscription.
    """

    max_packet_bytes: int = MAX_PACKET_BYTES
    in_flight: int = MAX_IN_FLIGHT
    keep_alive_s: int = 0
    has_retain: bool = True
    max_qos: int = 2
    has_shared: bool = True

    @property
    def words(self) -> str:
        """A summary for users."""
        lacks = "".join(f", {words}" for words in self.lacks.values())
        return f"packets of up to {self.max_packet_bytes / 1000:,.0f} kB{lacks}"

    @property
    def lacks(self) -> dict[str, str]:
        """Features that we use and the broker lacks: by name, what follows from it, in words."""
        return {
            name: words
            for name, (is_there, words) in {
                "retain": (self.has_retain, "no retained messages: states are known once they are said"),
                "qos": (self.max_qos > 0, "no QoS 1: it acknowledges nothing"),
                "shared": (self.has_shared, "no shared subscriptions: stores do not share the work"),
            }.items()
            if not is_there
        }

    def without(self, names: Collection[str]) -> Self:
        """Return the limits with these features lacking too; see `lacks` for their names."""
        return replace(
            self,
            has_retain=self.has_retain and "retain" not in names,
            max_qos=0 if "qos" in names else self.max_qos,
            has_shared=self.has_shared and "shared" not in names,
        )

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> Self:
        """Return the limits in a CONNACK's properties, given by paho's names for them, without spaces."""
        return cls(
            max_packet_bytes=properties.get("MaximumPacketSize", MAX_PACKET_BYTES),
            in_flight=min(MAX_IN_FLIGHT, properties.get("ReceiveMaximum", MAX_IN_FLIGHT)),
            keep_alive_s=properties.get("ServerKeepAlive") or 0,
            has_retain=bool(properties.get("RetainAvailable", 1)),
            max_qos=properties.get("MaximumQoS", 2),
            has_shared=bool(properties.get("SharedSubscriptionAvailable", 1)),
        )
