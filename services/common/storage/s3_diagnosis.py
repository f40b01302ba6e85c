"""Finds out why a write failed, by a second request; and respects servers that ask to wait."""

import asyncio
import time
from dataclasses import replace

from services.common.storage import s3_errors
from services.common.storage.objects import StoredObject, StoreUnavailable
from services.common.storage.s3_answers import WriteFailure, failure_in, is_digest
from services.common.storage.s3_requests import Requests, WriteOptions
from services.common.storage.s3_signed import IncompleteAnswer

LOOK_AGAIN_S = 10.0
"""Seconds for which the result of a second request is reused."""


class WriteDiagnosis:
    """Finds out why writes to one bucket fail.

    obstore reports neither an answer's headers nor an answer that was cut off. In these cases the write is
    done once more, by a request that shows the whole answer. Concurrent writers share the result.

    Args:
        requests: to the bucket.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._quiet_until = 0.0
        self._looked = asyncio.Lock()
        self._seen: dict[str, tuple[float, WriteFailure]] = {}

    def check_quiet(self) -> None:
        """Return if the server may be sent requests.

        Raises:
            StoreUnavailable: `throttled`: it has asked clients to wait for longer.
        """
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0:
            told = f"the server has asked to be left alone for {left_s:.0f} s more"
            raise StoreUnavailable("throttled", told, left_s)

    async def diagnose(self, error: Exception, item: StoredObject, way: WriteOptions) -> WriteFailure | None:
        """Return why a write failed, or None where finding out has written the object.

        Args:
            error: what obstore raised, one of `s3_requests.FOREIGN`.
            item: the object; it may be written again.
            way: how it was written.
        """
        told = WriteFailure(s3_errors.reason(error), self._requests.detail(error))
        is_cut = s3_errors.is_cut(error)
        if not (is_cut or s3_errors.is_hiding_headers(error)):
            return told
        kind = "cut" if is_cut else (s3_errors.status(error) or "redirect")
        async with self._looked:
            until, seen = self._seen.get(kind, (0.0, told))
            if time.monotonic() < until:
                return seen
            looked = await self._look(item, way, told)
            if looked is not None:
                self._remember(kind, looked)
            return looked

    def _remember(self, kind: str, looked: WriteFailure) -> None:
        """Keep a result for other writers, for a while."""
        now = time.monotonic()
        quiet_s = looked.retry_after_s
        self._quiet_until = max(self._quiet_until, now + (quiet_s or 0.0))
        self._seen[kind] = (now + (LOOK_AGAIN_S if quiet_s is None else max(quiet_s, 1.0)), looked)

    async def _look(self, item: StoredObject, way: WriteOptions, told: WriteFailure) -> WriteFailure | None:
        try:
            answer = await self._requests.put_with_answer(item, way)
        except IncompleteAnswer as error:
            return WriteFailure("bad_answer", f"{told.detail}: the answer {error}")
        if answer is None:
            return told
        if answer.status < 300:
            return None if is_digest(answer.headers.get("etag"), item.body) else told
        if answer.status < 400 or answer.status in (429, 503):
            looked = failure_in(answer)
            return replace(looked, detail=f"{told.detail}: {looked.detail}")
        return told


def unavailable(failure: WriteFailure | None) -> StoreUnavailable:
    """Return the error to raise for a failure; None as `WriteDiagnosis.diagnose` returns it."""
    if failure is None:
        return StoreUnavailable("unreachable", "an answer was lost, and the next one was good")
    return StoreUnavailable(failure.reason, failure.detail, failure.retry_after_s)
