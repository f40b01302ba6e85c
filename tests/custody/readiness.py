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
class Verdict:
    """How one service answered one fault.

    Attributes:
        fault: its name.
        service: whose answer it is.
        is_stopped: whether the fault stops its work.
        false_after_s: from the fault's start until it was seen not ready; nothing if it never was.
        true_after_s: from the fault's end until it was seen ready for good; nothing if it was not.
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
        return (is_in_time or not self.is_stopped) and is_back and self.changes <= 1


def judge(
    fault: str,
    stops: Collection[str],
    watch: Mapping[str, Sequence[Change]],
    *,
    began_s: float,
    ended_s: float,
    until_s: float,
) -> list[Verdict]:
    """Return what each service said of one fault that happened alone, and was ready before.

    Args:
        fault: its name.
        stops: the services whose work it stops.
        watch: what was seen of each.
        began_s: when it had begun.
        ended_s: when it was over.
        until_s: when the watching ended; what comes until then counts as flicker.
    """
    return [
        _verdict(
            fault,
            name,
            name in stops,
            [each for each in seen if began_s <= each.at_s <= until_s],
            began_s,
            ended_s,
        )
        for name, seen in watch.items()
    ]


def _verdict(  # noqa: PLR0917 - each is what its type says
    fault: str, service: str, is_stopped: bool, seen: Sequence[Change], began_s: float, ended_s: float
) -> Verdict:
    falls = [each for each in seen if not each.is_ready]
    rises = [each for each in seen if each.is_ready]
    first_fall = falls[0] if falls else None
    true_after_s: float | None = 0.0
    if seen:
        true_after_s = max(0.0, seen[-1].at_s - ended_s) if seen[-1].is_ready else None
    return Verdict(
        fault,
        service,
        is_stopped,
        first_fall.at_s - began_s if first_fall and first_fall.at_s <= ended_s else None,
        true_after_s,
        max(len(falls), len(rises)),
        first_fall.why if first_fall else "",
    )


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
