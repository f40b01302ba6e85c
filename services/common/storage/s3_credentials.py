"""The keys to a bucket: kept while they are good, and renewed before they are not."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import structlog

from services.common.backoff import Backoff
from services.common.storage.objects import StoreUnavailable
from services.common.storage.s3_keys import Found, Keys, find_keys, silence

log = structlog.get_logger()

STATIC_FOR_S = 300.0
"""How long keys without an end are kept before they are looked for again: a file may be rotated."""

MOST_REFUSALS = 3
REFUSALS_WITHIN_S = 60.0
"""Keys that are refused are looked for anew so often within this time, in seconds;"""
STATIC_REFUSALS_WITHIN_S = 6.0
"""and within this time where they have no end: they stand in a file, and nobody else has to be asked."""

_MOST_AHEAD_S = 600.0
_SHORTEST_S = 5.0
"""For how long keys are tried at least, even those that our clock says are no good: theirs may be right."""


class CredentialKeeper:
    """Finds keys once, hands them out until they expire, and finds the next ones ahead of that.

    Looking for keys asks other services, which may be silent: it never holds the event loop, nobody waits for
    it longer than the timeout, and nobody waits at all while the keys in hand are good. Time is the steady
    clock's, for the other one may be set at any moment.

    Args:
        timeout_s: how long finding may take.
        find: finds keys, on a thread of its own; raises `StoreUnavailable`.
        clock: seconds, steady.
    """

    def __init__(
        self,
        timeout_s: float,
        find: Callable[[float], Found] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._find = find or find_keys
        self._clock = clock
        self._keys: Keys | None = None
        self._good_until = self._renew_from = 0.0
        self._finding: asyncio.Task[StoreUnavailable | None] | None = None
        self._between_failures = Backoff(_SHORTEST_S, 60.0)
        self._is_told = False
        self._refused_at: deque[float] = deque(maxlen=MOST_REFUSALS)

    async def current(self) -> Keys:
        """Return keys that are good as far as is known.

        Raises:
            StoreUnavailable: `no_credentials`.
        """
        now = self._clock()
        if self._keys is None or now >= self._good_until:
            return await self._found()
        if now >= self._renew_from:
            self._start()
        return self._keys

    async def newer_than(self, refused: Keys) -> Keys | None:
        """Return other keys than those that the server has just refused, if there are any.

        They are looked for at once, but only so often: it may be something else that the server refuses.
        """
        if self._keys is not None and self._keys != refused:
            return self._keys
        is_finding = self._finding is not None and not self._finding.done()
        if not is_finding and not self._may_ask_again():
            return None
        with suppress(StoreUnavailable):
            found = await self._found()
            return found if found != refused else None
        return None

    async def close(self) -> None:
        """Stop looking for keys."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait({self._finding})

    def _may_ask_again(self) -> bool:
        now = self._clock()
        is_static = self._good_until == float("inf")
        within_s = STATIC_REFUSALS_WITHIN_S if is_static else REFUSALS_WITHIN_S
        if len(self._refused_at) == MOST_REFUSALS and now - self._refused_at[0] < within_s:
            return False
        self._refused_at.append(now)
        return True

    async def _found(self) -> Keys:
        finding = self._start()
        await asyncio.wait({finding})  # not cancelled with one of those who wait; has a bound of its own
        if (failure := finding.result()) is not None:
            raise failure
        assert self._keys is not None
        return self._keys

    def _start(self) -> "asyncio.Task[StoreUnavailable | None]":
        """Look for keys, unless that is under way."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._look(), name="storage.credentials")
        return self._finding

    async def _look(self) -> StoreUnavailable | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await _on_a_thread(lambda: self._find(self._timeout_s))
        except TimeoutError:
            return self._failed(StoreUnavailable("no_credentials", silence(self._timeout_s)))
        except StoreUnavailable as error:
            return self._failed(error)
        self._take(found)
        return None

    def _take(self, found: Found) -> None:
        lifetime_s = found.lifetime_s
        now = self._clock()
        if lifetime_s is None:
            self._good_until, self._renew_from = float("inf"), now + STATIC_FOR_S
        else:
            self._good_until = now + max(lifetime_s, _SHORTEST_S)
            self._renew_from = now + lifetime_s - min(_MOST_AHEAD_S, lifetime_s / 4)
        self._keys = found.keys
        self._is_told = False
        self._between_failures.reset()

    def _failed(self, error: StoreUnavailable) -> StoreUnavailable:
        now = self._clock()
        self._renew_from = now + self._between_failures.next_s()
        if self._keys is not None and now < self._good_until and not self._is_told:
            left_s = None if self._good_until == float("inf") else round(self._good_until - now)
            log.warning("store.credentials_not_renewed", detail=error.detail, good_for_s=left_s)
            self._is_told = True
        return error


async def _on_a_thread(work: Callable[[], Found]) -> Found:
    """Do something that may hang, on a thread that nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Found] = loop.create_future()

    def settle(result: Found | None, error: StoreUnavailable | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast("Found", result))

    def run() -> None:
        answer: tuple[Any, Any]
        try:
            answer = (work(), None)
        except StoreUnavailable as error:
            answer = (None, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, *answer)

    threading.Thread(target=run, name="storage.credentials", daemon=True).start()
    return await outcome
