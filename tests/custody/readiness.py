"""What `/readyz` says of each service while faults happen, and whether that is true."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.custody.rig import Part, Rig

POLL_S = 0.2
ANSWER_S = 1.0
"""Whoever does not answer within it is not ready."""
NOTICED_S = 5.0
"""How long it may take until a service says what is so."""


@dataclass(frozen=True, slots=True)
class Change:
    """A service became ready or stopped being so; `at_s` is when that was seen."""

    at_s: float
    is_ready: bool
    why: str = ""


@dataclass(slots=True)
class Watch:
    """What was seen of each service, in seconds of the monotonic clock.

    Attributes:
        changes: its changes in order, by its name; the first is what it was at the start.
    """

    changes: dict[str, list[Change]] = field(default_factory=dict)

    def note(self, name: str, at_s: float, *, is_ready: bool, why: str) -> None:
        """Take in one look at a service."""
        seen = self.changes.setdefault(name, [])
        if not seen or seen[-1].is_ready != is_ready:
            seen.append(Change(at_s, is_ready, why))

    def unready(self) -> dict[str, float]:
        """Return for which share of the time so far each was not ready."""
        now_s = time.monotonic()
        return {name: _unready_share(seen, now_s) for name, seen in self.changes.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """When a fault was, in seconds of the monotonic clock.

    Attributes:
        began_s: it had begun.
        healing_s: its healing began, and
        ended_s: was done.
        until_s: the watching ended; what comes until then counts as flicker.
    """

    began_s: float
    healing_s: float
    ended_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one service answered one fault.

    Attributes:
        fault: its name.
        service: whose answer it is.
        is_stopped: whether the fault stops its work.
        false_after_s: from the fault's start until it was seen not ready; nothing if it never was.
        true_after_s: from the fault's end until it was seen ready for good; nothing if it was not, and less
            than nothing if it was before the healing began.
        changes: how often it went either way, the more frequent one counting.
        why: what it said first.
    """

    fault: str
    service: str
    is_stopped: bool
    false_after_s: float | None
    true_after_s: float | None
    changes: int
    why: str = ""

    @property
    def is_true(self) -> bool:
        """Whether it said in time what was so, and said it once."""
        is_in_time = self.false_after_s is not None and self.false_after_s <= NOTICED_S
        is_back = self.true_after_s is not None and self.true_after_s <= NOTICED_S
        lied = self.is_stopped and self.true_after_s is not None and self.true_after_s < 0
        return (is_in_time or not self.is_stopped) and is_back and not lied and self.changes <= 1


def judge(
    fault: str, stops: Collection[str], watch: Mapping[str, Sequence[Change]], span: Span
) -> list[Verdict]:
    """Return what each service said of one fault that happened alone, and was ready before.

    Args:
        fault: its name.
        stops: the services whose work it stops.
        watch: what was seen of each.
        span: when it was.
    """
    return [
        _verdict(
            fault,
            name,
            name in stops,
            [each for each in seen if span.began_s <= each.at_s <= span.until_s],
            span,
        )
        for name, seen in watch.items()
    ]


def _verdict(fault: str, service: str, is_stopped: bool, seen: Sequence[Change], span: Span) -> Verdict:
    falls = [each for each in seen if not each.is_ready]
    rises = [each for each in seen if each.is_ready]
    fall = falls[0] if falls and falls[0].at_s <= span.healing_s else None
    return Verdict(
        fault,
        service,
        is_stopped,
        fall.at_s - span.began_s if fall else None,
        _true_after_s(seen[-1], span) if seen else 0.0,
        max(len(falls), len(rises)),
        falls[0].why if falls else "",
    )


def _true_after_s(last: Change, span: Span) -> float | None:
    if not last.is_ready:
        return None
    if last.at_s < span.healing_s:
        return last.at_s - span.healing_s
    return max(0.0, last.at_s - span.ended_s)


def _unready_share(seen: Sequence[Change], now_s: float) -> float:
    ends = [*(each.at_s for each in seen[1:]), now_s]
    unready_s = sum(end - each.at_s for each, end in zip(seen, ends, strict=True) if not each.is_ready)
    return unready_s / max(now_s - seen[0].at_s, 1e-9)


@asynccontextmanager
async def watched(stage: Rig) -> AsyncIterator[Watch]:
    """Ask every service of a rig five times a second."""
    watch = Watch()
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)
    ) as http:
        asking = [asyncio.create_task(_ask(http, name, part, watch)) for name, part in stage.services.items()]
        try:
            yield watch
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _ask(http: aiohttp.ClientSession, name: str, part: Part, watch: Watch) -> None:
    url = f"http://127.0.0.1:{part.process.http_port}/readyz"
    while True:
        started_s = time.monotonic()
        is_ready, why = False, "no answer"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with http.get(url) as answer:
                is_ready = answer.status == 200
                checks = (await answer.json())["checks"]
                why = "; ".join(f"{check}: {said}" for check, said in checks.items() if said != "ok")
        watch.note(name, time.monotonic(), is_ready=is_ready, why=why)
        await asyncio.sleep(max(0.0, POLL_S - (time.monotonic() - started_s)))
