"""One part of the benchmarks on the command line: its own options, and what all parts have."""

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.report.findings import Part
from benchmarks.report.page import as_text


def alone(
    about: str | None,
    measure: Callable[[argparse.Namespace], Part],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
) -> int:
    """Measure one part, print it, and return the exit status: 1 if a bound is not kept.

    Args:
        about: the module's docstring.
        measure: does the work.
        add_options: adds the part's own options; the defaults are what `python -m benchmarks` runs.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--json", type=Path, help="write what was found here")
    options = parser.parse_args()
    part = measure(options)
    print(as_text(part))
    if options.json:
        options.json.write_text(part.as_json())
    return 0 if part.is_met else 1
