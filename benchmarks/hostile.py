"""A million malformed messages into every decoder: each is refused, or taken, and nothing else happens.

    python -m benchmarks.hostile [--messages 1000000] [--seed 1]

The messages are shared out among the decoders. Ends with status 1 if one raises anything but `Refused`, or
if memory grows.
"""

import argparse
import random
import sys
import time
from collections import Counter

import psutil

from services.common.errors import Refused
from tests.custody.hostile import DECODERS

MOST_GROWTH_BYTES = 16 * 1024 * 1024


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


def main() -> int:
    """Feed them all; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    share = options.messages // len(DECODERS) + 1
    for decoder in DECODERS:
        feed(decoder, min(share, 5_000), rng)
    before_bytes = psutil.Process().memory_info().rss
    print("| decoder | messages | a second | refused, by reason |")
    print("|---|---:|---:|---|")
    for decoder in DECODERS:
        started_s = time.perf_counter()
        found = feed(decoder, share, rng)
        rate = share / (time.perf_counter() - started_s)
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.most_common())
        print(f"| {decoder} | {share} | {rate:.0f} | {reasons} |", flush=True)
    growth_bytes = psutil.Process().memory_info().rss - before_bytes
    print(f"\nmemory grew by {growth_bytes / 1024 / 1024:.1f} MiB", file=sys.stderr)
    return 0 if growth_bytes < MOST_GROWTH_BYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
