"""Sends notifications over HTTP, with retries and a bounded queue."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import structlog
from prometheus_client import Counter, Gauge

from services.common.erasure.selection import ERASED, Selection
from services.common.notify import notifications
from services.common.notify.notifications import Notification
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
"""Notifications in the queue; beyond it the oldest is dropped: the newest visit matters most."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
LEAST_WAIT_S = 0.001
_ROUNDING_S = 1e-6
"""A shorter wait counts as over: sums of small parts may never reach zero exactly."""


class NotificationQueue:
    """A bounded queue with a limit on how many are sent a minute.

    Args:
        per_minute: the limit; after a quiet minute so many may be sent at once.
    """

    def __init__(self, per_minute: int) -> None:
        self._notifications: deque[Notification] = deque()
        self._per_s = per_minute / 60.0
        self._most = float(per_minute)
        self._allowed = self._most
        self._at_s = 0.0
        self._not_before_s = 0.0
        self._backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)

    def __len__(self) -> int:
        return len(self._notifications)

    def add(self, notification: Notification) -> Notification | None:
        """Add a notification; return the oldest one if it was dropped for it, else None."""
        self._notifications.append(notification)
        return self._notifications.popleft() if len(self._notifications) > MOST else None

    def next(self, now_s: float) -> Notification | float | None:
        """Return the notification to send now, the seconds to wait for one, or None if there is none.

        Args:
            now_s: seconds of a steady clock.
        """
        gained = max(0.0, now_s - self._at_s) * self._per_s
        self._allowed = min(self._most, self._allowed + gained)
        self._at_s = now_s
        if not self._notifications:
            return None
        wait_s = max(self._not_before_s - now_s, (1.0 - self._allowed) / self._per_s)
        return max(wait_s, LEAST_WAIT_S) if wait_s > _ROUNDING_S else self._notifications[0]

    def done(self, notification: Notification) -> None:
        """Remove a notification that was delivered, or refused for good."""
        self._backoff.reset()
        self._allowed -= 1.0
        if notification in self._notifications:
            self._notifications.remove(notification)

    def drop(self, is_unwanted: Callable[[Notification], bool]) -> list[Notification]:
        """Remove the notifications for which `is_unwanted` holds; return them."""
        dropped = [notification for notification in self._notifications if is_unwanted(notification)]
        for notification in dropped:
            self._notifications.remove(notification)
        return dropped

    def failed(self, now_s: float, retry_after_s: float | None) -> None:
        """Note a failed try, and wait before the next.

        Args:
            now_s: seconds of a steady clock.
            retry_after_s: seconds for which the receiver asked to wait; None: with backoff.
        """
        self._not_before_s = now_s + (self._backoff.next_s() if retry_after_s is None else retry_after_s)


TIMEOUT_S = 10.0
MOST_RETRY_AFTER_S = 3600.0
_TRY_AGAIN = frozenset({408, 425, 429})
"""Refusals that are retried; the others are final."""

log = structlog.get_logger()
_drops = Drops(NOTIFY_DROPPED, "notify.message_not_sent")


class NotificationSender:
    """Sends notifications to a receiver.

    A receiver that does not answer delays no face, and takes no more memory than the queue may have.

    Args:
        url: the receiver's; see `notifications.check_url`.
        secret: signs messages; None: they are not signed.
        per_minute: how many are sent a minute, at most.
        is_erased: says whether a face, by its camera, id and visit, was erased.
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
        self._queue = NotificationQueue(per_minute)
        self._wake = asyncio.Event()
        self._reasons = RepeatFilter()

    def post(self, notification: Notification) -> None:
        """Queue a notification; never waits. At the bound the oldest is dropped and counted."""
        if (oldest := self._queue.add(notification)) is not None:
            _drops.count("too_many", visit=oldest.id)
        NOTIFY_WAITING.set(len(self._queue))
        self._wake.set()

    def erase(self, selection: Selection) -> None:
        """Drop notifications of faces that are erased."""
        self._forget(
            lambda notification: (
                notification.face is not None and selection.takes(*notification.face, notification.id)
            )
        )

    async def run(self) -> None:
        """Send queued notifications, until cancelled."""
        async with _session() as session:
            while True:
                self._wake.clear()
                match self._queue.next(time.monotonic()):
                    case Notification() as notification if notification.face and self._is_erased(
                        *notification.face, notification.id
                    ):
                        self._forget(notification.__eq__)
                    case Notification() as notification:
                        await self._send(session, notification)
                    case float() as wait_s:
                        await asyncio.sleep(wait_s)  # those that come meanwhile wait, too
                    case None:
                        await self._wake.wait()

    def _forget(self, is_erased: Callable[[Notification], bool]) -> None:
        for notification in self._queue.drop(is_erased):
            _drops.count(ERASED, visit=notification.id)
        NOTIFY_WAITING.set(len(self._queue))

    async def _send(self, session: aiohttp.ClientSession, notification: Notification) -> None:
        headers = dict(notification.headers)
        if notification.is_signed and self._secret is not None:
            headers |= notifications.signature(notification, self._secret, int(time.time()))
        try:
            async with session.post(
                notification.url, data=notification.body, headers=headers, allow_redirects=False
            ) as answer:
                self._answered(notification, answer.status, _retry_after_s(answer.headers.get("Retry-After")))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failed(type(error).__name__, None)

    def _answered(self, notification: Notification, status: int, retry_after_s: float | None) -> None:
        if status // 100 == 2:
            NOTIFY_SENT.inc()
            self._reasons.reset()
            self._queue.done(notification)
        elif status // 100 == 5 or status in _TRY_AGAIN:
            self._failed(f"HTTP {status}", retry_after_s)
        else:
            _drops.count("refused", visit=notification.id, to=notifications.address(self._url), status=status)
            self._queue.done(notification)
        NOTIFY_WAITING.set(len(self._queue))

    def _failed(self, why: str, retry_after_s: float | None) -> None:
        now_s = time.monotonic()
        NOTIFY_RETRIES.inc()
        self._queue.failed(now_s, retry_after_s)
        # Not the library's message: it may have the whole address, which may be a secret.
        if self._reasons.is_new(why, now_s):
            log.warning(
                "notify.message_waits", to=notifications.address(self._url), why=why, waiting=len(self._queue)
            )


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        yield session


def _retry_after_s(text: str | None) -> float | None:
    """Return the seconds in `Retry-After`, or None without one; a date is not supported."""
    if text is None or not text.isdecimal():
        return None
    return min(float(text), MOST_RETRY_AFTER_S)
