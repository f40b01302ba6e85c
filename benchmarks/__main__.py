"""All benchmarks, one after the other, each in a process of its own.

    python -m benchmarks [PART ...] [--publish | --compare docs/benchmarks.md]

`--publish` writes the results to docs/benchmarks.md; `--compare` says what is worse than on that page. Ends
with status 1 if a bound is missed, or something is worse. Takes about two hours, one of which is the soak,
on a machine that has nothing else to do.
"""

import argparse
import subprocess
import sys

PARTS = (
    *("pipeline", "looks", "recall", "people", "detect", "capture", "forward", "store"),
    *("scale", "fair", "at_home", "custody", "soak"),
)


def main() -> int:
    """Run what is asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    options, passed_on = parser.parse_known_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return max(_run(name, passed_on) for name in options.parts or PARTS)


def _run(name: str, options: list[str]) -> int:
    print(f"\n$ python -m benchmarks.{name} {' '.join(options)}", flush=True)
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False)
    return abs(done.returncode)


if __name__ == "__main__":
    raise SystemExit(main())
