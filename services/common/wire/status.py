"""In which order states were said, over however many brokers, and why. Pure: time is an argument."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from services.common.errors import Refused
from services.common.wire import times
from services.common.wire.message import Message

ORDER, EVERY = "order", "every"
"""Attributes of a state: when it was said, and after how many seconds at most something is said again."""
WHY = "why"
"""An attribute of a camera's state: what became of it, in a word of `[a-z]`."""
STATES = ("offline", "online", "stalled")
"""What a camera says of itself; its device's link says the first two of these."""
LAST = 999_999
"""The number of a connection's last word, its will."""
MOST_EVERY_S = 3600
_MOST_TEXT = 48
_WORD = re.compile(r"[a-z]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class StatusOrder:
    """When something was said.

    Brokers that know nothing of each other keep what was said last over each of them, and a will may come
    long after. So each state says which connection of its device it was said in, and as which word of it.

    Attributes:
        since: when that connection began, by the device's clock.
        number: 0 for its first word.
    """

    since: datetime
    number: int

    @classmethod
    def of(cls, message: Message) -> Self | None:
        """Return the order that a message carries, or None where it carries none."""
        text = dict(message.attributes).get(ORDER, "")[:_MOST_TEXT]
        since, _, number = text.partition("/")
        try:
            return cls(times.parse_rfc3339(since), min(int(number), LAST))
        except (Refused, ValueError):
            return None

    def __str__(self) -> str:
        return f"{times.rfc3339(self.since)}/{self.number}"


def every_s(message: Message) -> float | None:
    """Return after how many seconds at most its sender says something again, or None if it does not say."""
    text = dict(message.attributes).get(EVERY, "")[:_MOST_TEXT]
    return float(text) if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_EVERY_S else None


def reason_in(message: Message) -> str | None:
    """Return the word that a state says its reason with, or None where it says none, or more than a word."""
    text = dict(message.attributes).get(WHY, "")
    return text if _WORD.fullmatch(text) else None


def reason_attributes(reason: str | None) -> tuple[tuple[str, str], ...]:
    """Return what a state carries that has a reason, or that has none."""
    return () if reason is None else ((WHY, reason),)


class StatusSequence:
    """Puts a device's states into order.

    Args:
        every_s: how often it says at least that it is there; 0 for never.
    """

    def __init__(self, every_s: int) -> None:
        self._every_s = every_s
        self._since: datetime | None = None
        self._number = 0

    def begin(self, now: datetime) -> None:
        """Begin a connection, later than the one before whatever the clock says."""
        before = self._since
        self._since = now if before is None else max(now, before + timedelta(microseconds=1))
        self._number = 0

    def first(self, message: Message) -> Message:
        """Return the word that a connection begins with, and says again."""
        return self._marked(message, 0)

    def last(self, message: Message) -> Message:
        """Return the word that it ends with, whoever says it."""
        return self._marked(message, LAST)

    def next(self, message: Message) -> Message:
        """Return a word behind those that were said."""
        self._number = min(self._number + 1, LAST - 1)
        return self._marked(message, self._number)

    def _marked(self, message: Message, number: int) -> Message:
        assert self._since is not None, "no connection has begun"
        marks = [(ORDER, str(StatusOrder(self._since, number)))]
        if self._every_s:
            marks.append((EVERY, str(self._every_s)))
        return replace(message, attributes=(*message.attributes, *marks))
