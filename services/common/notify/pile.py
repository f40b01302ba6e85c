"""Messages that are to go out, and when the next one may."""

from collections import deque
from collections.abc import Callable

from services.common.backoff import Backoff
from services.common.notify.letters import Letter

MOST = 64
"""Of more the oldest goes: who was told nothing for an hour wants to know who came last."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
LEAST_WAIT_S = 0.001
_ROUNDING_S = 1e-6
"""What is left to wait by then may never come to nothing, for it is added up of ever smaller parts."""


class Pile:
    """A bounded pile, from which no more are taken a minute than the receiver is to get.

    Args:
        per_minute: how many; so many may go at once after a quiet minute.
    """

    def __init__(self, per_minute: int) -> None:
        self._letters: deque[Letter] = deque()
        self._per_s = per_minute / 60.0
        self._most = float(per_minute)
        self._allowed = self._most
        self._at_s = 0.0
        self._not_before_s = 0.0
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)

    def __len__(self) -> int:
        return len(self._letters)

    def add(self, letter: Letter) -> Letter | None:
        """Put a message behind the others; return the oldest one if it had to go for it."""
        self._letters.append(letter)
        return self._letters.popleft() if len(self._letters) > MOST else None

    def next(self, now_s: float) -> Letter | float | None:
        """Return the message that may go now, how long to wait until one may, or nothing if there is none.

        Args:
            now_s: a steady clock's, in seconds.
        """
        gained = max(0.0, now_s - self._at_s) * self._per_s
        self._allowed = min(self._most, self._allowed + gained)
        self._at_s = now_s
        if not self._letters:
            return None
        wait_s = max(self._not_before_s - now_s, (1.0 - self._allowed) / self._per_s)
        return max(wait_s, LEAST_WAIT_S) if wait_s > _ROUNDING_S else self._letters[0]

    def done(self, letter: Letter) -> None:
        """Note that a message has arrived, or never will, and goes."""
        self._backoff.reset()
        self._allowed -= 1.0
        if letter in self._letters:
            self._letters.remove(letter)

    def drop(self, is_unwanted: Callable[[Letter], bool]) -> list[Letter]:
        """Take messages out that are not to go out any more; return them."""
        dropped = [letter for letter in self._letters if is_unwanted(letter)]
        for letter in dropped:
            self._letters.remove(letter)
        return dropped

    def failed(self, now_s: float, retry_after_s: float | None) -> None:
        """Note that the receiver could not take it just now.

        Args:
            now_s: a steady clock's.
            retry_after_s: how long it wants to be left alone, if it said so.
        """
        self._not_before_s = now_s + (self._backoff.next_s() if retry_after_s is None else retry_after_s)
