"""Sends messages over HTTP, with patience and within bounds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import structlog
from prometheus_client import Counter, Gauge

from services.common.erasure.selection import ERASED, Selection
from services.common.notify import letters
from services.common.notify.letters import Letter
from services.common.runtime.concurrency import Backoff
from services.common.runtime.logging import RepeatFilter
from services.common.runtime.metrics import Drops
from services.common.wire.topics import Source

NOTIFY_SENT = Counter("faceferry_notify_sent_total", "Messages about visits that their receiver has taken.")
NOTIFY_RETRIES = Counter(
    "faceferry_notify_retries_total", "Times that a message could not be sent just then."
)
NOTIFY_DROPPED = Counter(
    "faceferry_notify_dropped_total", "Messages about visits that never arrive, by reason.", ["reason"]
)
NOTIFY_WAITING = Gauge("faceferry_notify_waiting", "Messages about visits that are to be sent.")


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
        """Return the message that may go now, how long to wait until one may, or None if there is none.

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


TIMEOUT_S = 10.0
MOST_RETRY_AFTER_S = 3600.0
_TRY_AGAIN = frozenset({408, 425, 429})
"""Of the refusals those that say `not now`; the others say `never`."""

log = structlog.get_logger()
_drops = Drops(NOTIFY_DROPPED, "notify.message_not_sent")


class Messenger:
    """Tells somebody that somebody came.

    A receiver that is away costs no face and no more memory than the pile has room for.

    Args:
        url: where to; see `letters.check_url`.
        secret: with which messages are signed, if any.
        per_minute: how many of them, at most.
        is_erased: says whether a face, by its camera, its id and its visit, was erased before it was told of.
    """

    def __init__(
        self,
        url: str,
        secret: str | None,
        *,
        per_minute: int,
        is_erased: Callable[[Source, str, str], bool] = lambda *_: False,
    ) -> None:
        self._is_erased = is_erased
        self._url = url
        self._secret = secret
        self._pile = Pile(per_minute)
        self._wake = asyncio.Event()
        self._reasons = RepeatFilter()

    def post(self, letter: Letter) -> None:
        """Take a message; never waits. At the bound the oldest goes."""
        if (oldest := self._pile.add(letter)) is not None:
            _drops.count("too_many", visit=oldest.id)
        NOTIFY_WAITING.set(len(self._pile))
        self._wake.set()

    def erase(self, selection: Selection) -> None:
        """Forget what was not sent yet of faces that are erased."""
        self._forget(lambda letter: letter.face is not None and selection.takes(*letter.face, letter.id))

    async def run(self) -> None:
        """Send what there is, until cancelled."""
        async with _session() as session:
            while True:
                self._wake.clear()
                match self._pile.next(time.monotonic()):
                    case Letter() as letter if letter.face and self._is_erased(*letter.face, letter.id):
                        self._forget(letter.__eq__)
                    case Letter() as letter:
                        await self._send(session, letter)
                    case float() as wait_s:
                        await asyncio.sleep(wait_s)  # what comes meanwhile waits behind
                    case None:
                        await self._wake.wait()

    def _forget(self, is_erased: Callable[[Letter], bool]) -> None:
        for letter in self._pile.drop(is_erased):
            _drops.count(ERASED, visit=letter.id)
        NOTIFY_WAITING.set(len(self._pile))

    async def _send(self, session: aiohttp.ClientSession, letter: Letter) -> None:
        headers = dict(letter.headers)
        if letter.is_signed and self._secret is not None:
            headers |= letters.signature(letter, self._secret, int(time.time()))
        try:
            async with session.post(
                letter.url, data=letter.body, headers=headers, allow_redirects=False
            ) as answer:
                self._answered(letter, answer.status, _retry_after_s(answer.headers.get("Retry-After")))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failed(type(error).__name__, None)

    def _answered(self, letter: Letter, status: int, retry_after_s: float | None) -> None:
        if status // 100 == 2:
            NOTIFY_SENT.inc()
            self._reasons.reset()
            self._pile.done(letter)
        elif status // 100 == 5 or status in _TRY_AGAIN:
            self._failed(f"HTTP {status}", retry_after_s)
        else:
            _drops.count("refused", visit=letter.id, to=letters.address(self._url), status=status)
            self._pile.done(letter)
        NOTIFY_WAITING.set(len(self._pile))

    def _failed(self, why: str, retry_after_s: float | None) -> None:
        now_s = time.monotonic()
        NOTIFY_RETRIES.inc()
        self._pile.failed(now_s, retry_after_s)
        # Never what the library says: it may name the whole address, which may be a secret.
        if self._reasons.is_new(why, now_s):
            log.warning(
                "notify.message_waits", to=letters.address(self._url), why=why, waiting=len(self._pile)
            )


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        yield session


def _retry_after_s(text: str | None) -> float | None:
    """Return for how many seconds a receiver wants to be left alone; as a date is not understood."""
    if text is None or not text.isdecimal():
        return None
    return min(float(text), MOST_RETRY_AFTER_S)
