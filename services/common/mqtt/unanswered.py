"""What was published and has no acknowledgement yet."""

from collections.abc import Callable

from paho.mqtt.reasoncodes import ReasonCode

from services.common.mqtt.delivery import drops
from services.common.mqtt.packets import as_reason
from services.common.mqtt.path import LARGE_BYTES

Acknowledged = Callable[[str | None], None]
"""Is told that the broker has a message, or why it has refused it: `not_authorized`, `quota_exceeded`, ...;
or `UNHEARD`."""
UNHEARD = "no_matching_subscribers"
"""The broker has taken a message, and dropped it, for nobody has subscribed to it just now."""


class Unanswered:
    """QoS 1 messages that are under way to the broker, by what paho numbers them with.

    Args:
        link: the link's name, for metrics.
        on_large: called when a large one has come through.
    """

    def __init__(self, link: str, on_large: Callable[[], None]) -> None:
        self._link = link
        self._on_large = on_large
        self._waiting: dict[int, Acknowledged] = {}
        self._large: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def has_large(self) -> bool:
        """Whether a large one is among them."""
        return bool(self._large)

    def add(self, mid: int, size_bytes: int, then: Acknowledged | None) -> None:
        """Note a message that was handed to the connection.

        Args:
            mid: its number.
            size_bytes: of its payload.
            then: is told of the answer.
        """
        if then is not None:
            self._waiting[mid] = then
        if size_bytes > LARGE_BYTES:
            self._large.add(mid)

    def forget(self) -> None:
        """Forget all: the connection is lost, and no answer comes."""
        self._waiting.clear()
        self._large.clear()

    def answered(self, mid: int, reason: ReasonCode) -> None:
        """Take the broker's answer to one."""
        then = self._waiting.pop(mid, None)
        if mid in self._large:
            self._large.discard(mid)
            self._on_large()
        if reason.is_failure:
            drops.count("refused_by_broker", self._link, code=str(reason))
        if then is not None:
            then(None if reason.value == 0 else as_reason(str(reason)))
