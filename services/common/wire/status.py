"""States of cameras and devices: their order across brokers, and their reason. Pure: time is an argument."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from services.common.errors import Refused
from services.common.wire import times
from services.common.wire.message import Message

ORDER, EVERY = "order", "every"
"""Attributes of a state: its `StatusOrder`, and the longest time until the sender's next state, seconds."""
WHY = "why"
"""The attribute with the reason of a camera's state: one word of `[a-z]`."""
STATES = ("offline", "online", "stalled")
"""The states of a camera; a device has the first two."""
LAST = 999_999
"""The number of a connection's last state, its will."""
MOST_EVERY_S = 3600
_MOST_TEXT = 48
_WORD = re.compile(r"[a-z]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class StatusOrder:
    """When a state was published.

    Brokers that know nothing of each other each keep the last state published there, and may publish a will
    much later. So each state carries when its device's connection began, and its number within that.

    Attributes:
        since: when that connection began, by the device's clock, UTC.
        number: 0 for its first state, `LAST` for its will.
    """

    since: datetime
    number: int

    @classmethod
    def of(cls, message: Message) -> Self | None:
        """Return the order that a message carries, or None without a valid one."""
        text = dict(message.attributes).get(ORDER, "")[:_MOST_TEXT]
        since, _, number = text.partition("/")
        try:
            return cls(times.parse_rfc3339(since), min(int(number), LAST))
        except (Refused, ValueError):
            return None

    def __str__(self) -> str:
        return f"{times.rfc3339(self.since)}/{self.number}"


def every_s(message: Message) -> float | None:
    """Return the longest time until the sender's next state, seconds, or None if the message has none."""
    text = dict(message.attributes).get(EVERY, "")[:_MOST_TEXT]
    return float(text) if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_EVERY_S else None


def reason_in(message: Message) -> str | None:
    """Return the reason of a state, or None without one, or with more than a word."""
    text = dict(message.attributes).get(WHY, "")
    return text if _WORD.fullmatch(text) else None


def reason_attributes(reason: str | None) -> tuple[tuple[str, str], ...]:
    """Return the attributes of a state with this reason; none for None."""
    return () if reason is None else ((WHY, reason),)


class StatusSequence:
    """Numbers the states that a device publishes.

    Args:
        every_s: the longest time between two of them, seconds; 0: no limit.
    """

    def __init__(self, every_s: int) -> None:
        self._every_s = every_s
        self._since: datetime | None = None
        self._number = 0

    def begin(self, now: datetime) -> None:
        """Begin a connection; its time is later than the one before, even if the clock was set back."""
        before = self._since
        self._since = now if before is None else max(now, before + timedelta(microseconds=1))
        self._number = 0

    def first(self, message: Message) -> Message:
        """Return a message as the connection's first state; it may be repeated."""
        return self._marked(message, 0)

    def last(self, message: Message) -> Message:
        """Return a message as the connection's last state, published by us or as the broker's will."""
        return self._marked(message, LAST)

    def next(self, message: Message) -> Message:
        """Return a message as the connection's next state."""
        self._number = min(self._number + 1, LAST - 1)
        return self._marked(message, self._number)

    def _marked(self, message: Message, number: int) -> Message:
        assert self._since is not None, "no connection has begun"
        marks = [(ORDER, str(StatusOrder(self._since, number)))]
        if self._every_s:
            marks.append((EVERY, str(self._every_s)))
        return replace(message, attributes=(*message.attributes, *marks))
