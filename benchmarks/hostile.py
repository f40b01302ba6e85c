"""A million malformed messages into every decoder: each is refused, or taken, and nothing else happens.

    python -m benchmarks.hostile [--messages 1000000] [--seed 1]

The messages are shared out among the decoders. Whatever a decoder raises but `Refused` ends the run.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from services.common.errors import Refused
from tests.custody.hostile import DECODERS

MOST_GROWTH_MIB = 16
WARM_UP = 5_000
ABOUT = """
{messages:,} messages from seed {seed}, shared out among all that reads messages: none is what it should be,
from a missing attribute over a truncated JPEG to JSON nested 100,000 deep. Each has to be refused with a
reason, or taken where its reader has no use for what is wrong with it; any other exception ends the run
without a result. Memory is that of the process, compared after {warm_up:,} messages to each reader and at the
end.
"""


def feed(decoder: str, messages: int, rng: random.Random) -> Counter[str]:
    """Give a decoder so many messages; return how many it refused by reason, and how many it took."""
    decode, make = DECODERS[decoder]
    found: Counter[str] = Counter()
    for _ in range(messages):
        try:
            decode(make(rng))
        except Refused as refusal:
            found[refusal.reason] += 1
        else:
            found["taken"] += 1
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one decoder's messages, by reason or `taken`, and how many it read a second."""

    found: Counter[str]
    rate: float


def timed(decoder: str, messages: int, rng: random.Random) -> Outcome:
    """Feed a decoder and time it."""
    started_s = time.perf_counter()
    found = feed(decoder, messages, rng)
    return Outcome(found, messages / (time.perf_counter() - started_s))


def readers_table(outcomes: Mapping[str, Outcome]) -> Table:
    """Return how many each has read, and how many of them it refused."""
    return Table(
        "Who reads them",
        ("reader", "messages", "a second", "taken", "refused"),
        tuple(
            (name, one.found.total(), one.rate, one.found["taken"], one.found.total() - one.found["taken"])
            for name, one in outcomes.items()
        ),
    )


def reasons_table(outcomes: Mapping[str, Outcome]) -> Table:
    """Return how often each reason was given, and by whom."""
    reasons = sorted({reason for one in outcomes.values() for reason in one.found} - {"taken"})
    return Table(
        "Why they are refused",
        ("reason", *outcomes),
        tuple((reason, *(one.found[reason] or None for one in outcomes.values())) for reason in reasons),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many messages, and which."""
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)


def measure(options: argparse.Namespace) -> Part:
    """Feed all decoders."""
    rng = random.Random(options.seed)
    share = options.messages // len(DECODERS) + 1
    warm_up = min(share, WARM_UP)
    for decoder in DECODERS:
        feed(decoder, warm_up, rng)
    before_bytes = psutil.Process().memory_info().rss
    outcomes = {decoder: timed(decoder, share, rng) for decoder in DECODERS}
    growth_bytes = psutil.Process().memory_info().rss - before_bytes
    return Part(
        "hostile",
        "Hostile messages",
        ABOUT.format(messages=share * len(DECODERS), seed=options.seed, warm_up=warm_up),
        (_growth(growth_bytes),),
        (readers_table(outcomes), reasons_table(outcomes)),
    )


def _growth(growth_bytes: int) -> Figure:
    return Figure(
        "memory growth after hostile messages",
        growth_bytes / 1024 / 1024,
        "less",
        MOST_GROWTH_MIB,
        "MiB",
        "No reader keeps anything of a message, so what grows is either the allocator's or a leak.",
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
