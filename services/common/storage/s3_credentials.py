"""The access keys of a bucket: found by botocore, kept while they are valid, renewed in time."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from aiobotocore.credentials import AioProcessProvider
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from services.common.runtime.concurrency import Backoff
from services.common.storage.objects import StoreUnavailable

_FOREIGN = (
    BotoCoreError,
    ClientError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
)
"""What botocore raises where a file, a program or a service gives something other than credentials."""


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """Access keys that sign requests.

    Attributes:
        access_key_id: the name of the key.
        secret_access_key: never shown.
        token: of temporary keys, else None; never shown.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not be shown."""
        return (self.secret_access_key, self.token or "")


@dataclass(frozen=True, slots=True)
class FoundKeys:
    """Access keys as they were found.

    Attributes:
        keys: the keys.
        lifetime_s: seconds until they expire; None: they do not.
    """

    keys: AccessKeys
    lifetime_s: float | None = None


def find_keys(timeout_s: float) -> FoundKeys:
    """Return the keys that botocore finds; blocks, and may ask other services.

    Args:
        timeout_s: how long the services may take.

    Raises:
        StoreUnavailable: `no_credentials`: none were found, or they cannot be used.
    """
    _silence_botocore()
    try:
        found = asyncio.run(_ask_botocore(timeout_s))
    except TimeoutError as error:
        raise StoreUnavailable("no_credentials", silence(timeout_s)) from error
    except _FOREIGN as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise StoreUnavailable("no_credentials", words[:500]) from error
    if found is None:
        raise StoreUnavailable("no_credentials", "none found in AWS_*, the AWS files or the instance")
    for name in ("access_key_id", "secret_access_key", "token"):
        if not _is_header_value(getattr(found.keys, name) or "x"):
            raise StoreUnavailable("no_credentials", f"the {name} found has characters that no key has")
    return found


async def _ask_botocore(timeout_s: float) -> FoundKeys | None:
    session = AioSession()
    async with asyncio.timeout(timeout_s), _programs(session):
        credentials = await session.get_credentials()
        frozen = await credentials.get_frozen_credentials() if credentials is not None else None
    if frozen is None or not frozen.access_key or not frozen.secret_key:
        return None
    # Only those that can be refreshed expire, and botocore has no public name for when.
    expiry: datetime | None = getattr(credentials, "_expiry_time", None)
    lifetime_s = None if expiry is None else (expiry - datetime.now(UTC)).total_seconds()
    return FoundKeys(AccessKeys(frozen.access_key, frozen.secret_key, frozen.token), lifetime_s)


@asynccontextmanager
async def _programs(session: AioSession) -> AsyncIterator[None]:
    """Kill programs that were asked for keys (`credential_process`) and did not answer."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await asyncio.create_subprocess_exec(*command, **options))
        return started[-1]

    profile = session.get_config_variable("profile") or "default"
    provider = AioProcessProvider(profile, lambda: session.full_config, popen=start)
    session.get_component("credential_provider").insert_before("custom-process", provider)
    try:
        yield
    finally:
        for program in started:
            if program.returncode is None:
                program.kill()
                await program.wait()


def _silence_botocore() -> None:
    """Keep botocore from logging a traceback for each try: we log its errors ourselves."""
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(f"{name}.credentials").disabled = True


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def silence(timeout_s: float) -> str:
    """Return the message for a provider of keys that does not answer."""
    return f"their provider has not answered for {timeout_s:g} s"


log = structlog.get_logger()

STATIC_FOR_S = 300.0
"""Seconds after which keys that do not expire are looked for again: a file may be rotated."""

MOST_REFUSALS = 3
REFUSALS_WITHIN_S = 60.0
"""Refused keys are looked for again `MOST_REFUSALS` times within so many seconds, at most,"""
STATIC_REFUSALS_WITHIN_S = 6.0
"""and within so many where they do not expire: they are in a file, and no service is asked."""

_MOST_AHEAD_S = 600.0
_SHORTEST_S = 5.0
"""Keys are used at least so long, even if they have expired by our clock, which may be wrong."""


class CredentialKeeper:
    """Finds keys once, returns them until they expire, and finds the next ones before that.

    Finding keys may ask services that do not answer: it runs on its own thread, callers wait no longer than
    the timeout, and do not wait at all while the keys are valid. Times are of the steady clock, because the
    wall clock may be set at any moment.

    Args:
        timeout_s: seconds that finding may take.
        find: finds keys, on its own thread; raises `StoreUnavailable`.
        clock: seconds, steady.
    """

    def __init__(
        self,
        timeout_s: float,
        find: Callable[[float], FoundKeys] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._find = find or find_keys
        self._clock = clock
        self._keys: AccessKeys | None = None
        self._good_until = self._renew_from = 0.0
        self._finding: asyncio.Task[StoreUnavailable | None] | None = None
        self._between_failures = Backoff(_SHORTEST_S, 60.0)
        self._is_told = False
        self._refused_at: deque[float] = deque(maxlen=MOST_REFUSALS)

    async def current(self) -> AccessKeys:
        """Return keys that are valid as far as is known.

        Raises:
            StoreUnavailable: `no_credentials`.
        """
        now = self._clock()
        if self._keys is None or now >= self._good_until:
            return await self._found()
        if now >= self._renew_from:
            self._start()
        return self._keys

    async def newer_than(self, refused: AccessKeys) -> AccessKeys | None:
        """Return other keys than those that the server has just refused, or None.

        They are looked for at once, but not too often: the server may refuse something else.
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
        """Cancel a search for keys, and wait for its end."""
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

    async def _found(self) -> AccessKeys:
        finding = self._start()
        await asyncio.wait({finding})  # not cancelled with a caller; it has its own timeout
        if (failure := finding.result()) is not None:
            raise failure
        assert self._keys is not None
        return self._keys

    def _start(self) -> "asyncio.Task[StoreUnavailable | None]":
        """Start a search for keys, unless one is running."""
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

    def _take(self, found: FoundKeys) -> None:
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


async def _on_a_thread(work: Callable[[], FoundKeys]) -> FoundKeys:
    """Run something that may hang on a daemon thread, which the end of the process does not wait for."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[FoundKeys] = loop.create_future()

    def settle(result: FoundKeys | None, error: StoreUnavailable | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(cast("FoundKeys", result))

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
