"""All benchmarks: what docs/benchmarks.md says.

    python -m benchmarks [PART ...] [--compare FILE [--tolerance 0.2]]

Runs all parts, or those named, one after the other, each in a process of its own. Without --compare it writes
docs/benchmarks.md, its pictures and docs/benchmarks/results.json; parts that were not run stay there as they
were. With --compare it writes nothing, says how each figure differs from an earlier run's results.json, and
ends with status 1 if one is worse by more than the tolerance or breaks a bound that it kept. Takes about two
hours, one of which is the soak, on a machine that has nothing else to do.
"""

import argparse
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import comparison, records
from benchmarks.report.findings import Part
from benchmarks.report.machine import describe
from benchmarks.report.page import as_page
from benchmarks.report.plots import draw
from benchmarks.report.records import Record

PARTS = (
    "pipeline",
    "scale",
    "start",
    "capture",
    "detect",
    "people",
    "recall",
    "looks",
    "forward",
    "store",
    "fair",
    "observability",
    "at_home",
    "undeliverable",
    "custody",
    "hostile",
    "bombs",
    "soak",
)
DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "benchmarks"
RESULTS = PICTURES / "results.json"


def main() -> int:
    """Run what is asked for; return the exit status."""
    options = _options()
    earlier = records.load(options.compare) if options.compare else {}
    now = {}
    for name in options.parts or PARTS:
        now[name] = Record(run(name), f"{datetime.now(UTC):%Y-%m-%d}", describe())
        if not options.compare:
            publish(records.load(RESULTS) | now)
    if options.compare:
        return int(_has_worsened(earlier, now, options.tolerance))
    return 0


def run(name: str) -> Part:
    """Run a part with its default options and return what it found.

    Raises:
        SystemExit: it found nothing, for it failed.
    """
    print(f"\n$ python -m benchmarks.{name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faceferry-benchmark-") as folder:
        found = Path(folder) / "part.json"
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--json", str(found)], check=False)
        if not found.exists():
            raise SystemExit(f"benchmarks.{name} ended with status {done.returncode} and found nothing")
        return Part.from_json(found.read_text())


def publish(known: dict[str, Record]) -> None:
    """Write the page, its pictures, and the results to compare later runs with."""
    in_order = [known[name] for name in PARTS if name in known]
    PICTURES.mkdir(exist_ok=True)
    for record in in_order:
        for plot in record.part.plots:
            draw(plot, PICTURES)
    records.save(RESULTS, in_order)
    (DOCS / "benchmarks.md").write_text(as_page(in_order))


def _has_worsened(earlier: dict[str, Record], now: dict[str, Record], tolerance: float) -> bool:
    is_worse = False
    for name, record in now.items():
        if name not in earlier:
            print(f"\n{record.part.title}: nothing to compare with")
            continue
        changes = comparison.compare(earlier[name].part, record.part, tolerance)
        print(f"\n{comparison.as_text(record.part, changes)}")
        is_worse |= any(change.is_worse for change in changes)
    return is_worse


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run's results.json")
    parser.add_argument("--tolerance", type=float, default=0.2, help="the share that noise may explain")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.compare and not options.compare.exists():
        parser.error(f"{options.compare} does not exist")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
