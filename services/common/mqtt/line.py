"""What is remembered of one broker, over however many connections."""

from dataclasses import dataclass, field

from services.common.broker import Broker
from services.common.credentials import Credentials
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
        news: what was said of why it cannot be had.
        why_down: why there is no connection; out of date while there is one.
    """

    broker: Broker
    credentials: Credentials
    patience: Patience = field(default_factory=Patience)
    pulse: Pulse = field(default_factory=Pulse)
    path: Path = field(default_factory=Path)
    news: News = field(default_factory=News)
    why_down: str = "no connection was tried yet"

    @property
    def address(self) -> str:
        """Host and port, for logs and metrics."""
        return self.broker.address
