"""One benchmark on the command line: its own options, and those that all of them have."""

import argparse
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmarks.report.machine import describe
from services.common.runtime.logging import configure_logging
from tests.rigs.report import page
from tests.rigs.report.findings import Part
from tests.support import SHARED

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
FILES = 4096

Measured = TypeVar("Measured")


def alone(
    about: str | None,
    measure: Callable[[argparse.Namespace], Part],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
) -> int:
    """Measure one part, print it, and return the exit status: 1 if a bound is missed or something is worse.

    Args:
        about: the module's docstring.
        measure: does the work.
        add_options: adds the part's own options; the defaults are what `python -m benchmarks` runs.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--publish", action="store_true", help="write what is found to docs/benchmarks.md")
    parser.add_argument("--compare", type=Path, metavar="PAGE", help="say what is worse than on that page")
    parser.add_argument("--tolerance", type=float, default=0.2, help="the share that noise may explain")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, FILES)), hard))
    os.environ.setdefault("FACEFERRY_MODEL_DIR", str(SHARED / "models"))
    configure_logging("benchmark", "error", "console")
    part = measure(options)
    print(page.as_text(part))
    if options.publish:
        when = f"{datetime.now(UTC):%Y-%m-%d}; {describe()}"
        PAGE.write_text(page.published(PAGE.read_text(), part, when))
        if part.bars:
            from tests.rigs.report.plots import draw  # noqa: PLC0415 - matplotlib takes a second

            draw(part, PAGE.parent / "benchmarks")
    if options.compare:
        changes = page.compare(options.compare.read_text(), part, options.tolerance)
        print(*changes, sep="\n")
        return int(any(change.is_worse for change in changes))
    return 0 if part.is_met else 1


def in_turns(ways: Mapping[str, Callable[[int], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Measure all variants in each round, in reverse order in every other round; return the results by name.

    Args:
        ways: by name; each gets the number of the round.
        rounds: how many.
    """
    found: defaultdict[str, list[Measured]] = defaultdict(list)
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
            found[name].append(ways[name](number))
    return {name: found[name] for name in ways}
