"""What is remembered of one broker, over however many connections."""

from dataclasses import dataclass, field

from services.common.broker import Broker
from services.common.credentials import Credentials
from services.common.mqtt.packet_limit import PacketLimit
from services.common.mqtt.path import Path
from services.common.mqtt.patience import Patience
from services.common.mqtt.pulse import Pulse
from services.common.news import News


@dataclass
class Line:
    """One broker, and how it was to talk to it.

    Attributes:
        broker: where it is.
        credentials: what it is shown.
        patience: how long it is waited for.
        pulse: whether it is there.
        path: whether large packets reach it.
        packet_limit: how large a packet it takes, where it does not say.
        lacks: what it is known not to offer, though it does not say so when it lets us in.
        fault: what made us leave it, until it works.
        news: what was said of why it cannot be had.
        said: what was said of it once and for all.
        why_down: why there is no connection; out of date while there is one.
    """

    broker: Broker
    credentials: Credentials
    patience: Patience = field(default_factory=Patience)
    pulse: Pulse = field(default_factory=Pulse)
    path: Path = field(default_factory=Path)
    packet_limit: PacketLimit = field(default_factory=PacketLimit)
    lacks: frozenset[str] = frozenset()
    fault: str | None = None
    news: News = field(default_factory=News)
    said: set[str] = field(default_factory=set)
    why_down: str = "no connection was tried yet"

    def says_news(self, what: str) -> bool:
        """Say whether something was not said yet of this broker; if so, it counts as said."""
        if what in self.said:
            return False
        self.said.add(what)
        return True

    @property
    def address(self) -> str:
        """Host and port, for logs and metrics."""
        return self.broker.address
