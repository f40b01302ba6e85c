"""The custody proof in its long form: known faces, and everything that can fail, failing at random.

    python -m benchmarks.custody [--seeds 3] [--seed N] [--faces 7000] [--faults 110] [--seconds 150]
        [--s3-server PROGRAM]

A driver in detect's place publishes faces, each of its own; forward, store, both brokers, the link, the
bucket, the spool's disk and the clocks fail meanwhile. When all is well again the bucket is compared with
what was published, byte for byte. Needs root for the spool's small disk, and libfaketime; what cannot be had
is left out, and said.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Table
from benchmarks.servers import find_s3_server
from services.common.logging import configure_logging
from tests.custody.report import Report
from tests.custody.run import run

ABOUT = """
A driver in detect's place publishes known faces, each of its own, 0.5 to 20 kB, holds each until forward has
receipted it, and publishes it again, as detect does: {faces:,} in each run. Meanwhile faults are drawn from
the run's seed ({seeds}), {faults} of them, one every {pause_s:.1f} seconds on average and a few at a time, so
that no custodian has a quiet moment. When the last is healed, the run waits until forward holds nothing, and
compares every object in the bucket with what was published: key, bytes, and that nothing else is there. Both
brokers are real Mosquittos with `persistence false`, the bucket is a real S3 server (versitygw), forward and
store are processes of their own.
"""
OF_FAULTS = """
*Killed* is SIGKILL, *stopped* is SIGSTOP for 23 to 26 s, longer than a broker waits for a client. A
*half-open* link swallows bytes and resets nothing; connections that lost bytes stay dead after it is healed.
A *slow* link carries 20 to 400 kB/s with 50 or 500 ms one way; a *flapping* one is reset every 20 to 400 ms.
The spool's disk is a tmpfs of 64 MiB, filled to its last byte. The clock is stepped a day under running
processes (forward and its broker, or store and its broker) by libfaketime.
"""


def play(seeds: Sequence[int], options: argparse.Namespace) -> list[Report]:
    """Play a run of each seed, and say how it went."""
    program = options.s3_server or find_s3_server()
    if program is None:
        sys.exit("no S3 server: name a versitygw program with --s3-server")
    reports: list[Report] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
            playing = run(
                Path(folder),
                program,
                seed,
                faces=options.faces,
                faults=options.faults,
                seconds=options.seconds,
            )
            reports.append(asyncio.run(playing))
        print(reports[-1].as_text(), file=sys.stderr, flush=True)
    return reports


def about(reports: Sequence[Report], options: argparse.Namespace) -> str:
    """Say what was done, and what this machine could not do."""
    text = ABOUT.format(
        faces=options.faces,
        seeds=_seeds(reports),
        faults=options.faults,
        pause_s=options.seconds / options.faults,
    )
    missing = sorted({why for report in reports for why in report.missing.values()})
    return text + (f"\nLeft out on this machine: {'; '.join(missing)}.\n" if missing else "")


def figures(reports: Sequence[Report]) -> tuple[Figure, ...]:
    """Return what must be nothing, of all runs together."""
    limits = (
        f"A promise is broken: `--seed` with {_seeds(reports)} draws the same faults again, though the timing"
        " of processes is not in the seed."
    )
    counts = {
        "faces lost": sum(report.lost for report in reports),
        "faces stored twice": sum(report.duplicates for report in reports),
        "faces whose bytes differ": sum(report.differing for report in reports),
        "objects that nobody published": sum(report.unexpected for report in reports),
    }
    return tuple(Figure(name, count, "less", 0, limits=limits) for name, count in counts.items())


def faces_table(reports: Sequence[Report]) -> Table:
    """Return what became of the faces, a row for each seed."""
    return Table(
        "What became of the faces",
        (
            "seed",
            "faces",
            "faults",
            "lost",
            "twice",
            "bytes differ",
            "nobody's",
            "sent again",
            "median, s",
            "longest, s",
        ),
        tuple(_row(report) for report in reports),
        "*Sent again* is how many faces went over the link more than once; *median* and *longest* run from"
        " the first publication to the object in the bucket, and say how much of the time something was"
        " broken.",
    )


def _row(report: Report) -> tuple[Cell, ...]:
    return (
        str(report.seed),
        report.faces,
        len(report.events),
        report.lost,
        report.duplicates,
        report.differing,
        report.unexpected,
        report.resent_uplink,
        report.typical_s,
        report.longest_s,
    )


def faults_table(reports: Sequence[Report]) -> Table:
    """Return how often each kind of fault happened, in all runs together."""
    times = sum((report.faults for report in reports), Counter[str]())
    return Table(
        "Faults, all seeds together", ("fault", "times"), tuple(sorted(times.items())), OF_FAULTS.strip()
    )


def _seeds(reports: Sequence[Report]) -> str:
    return ", ".join(str(report.seed) for report in reports)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many runs, and how large each is."""
    parser.add_argument("--seeds", type=int, default=3, help="runs, each with the next seed")
    parser.add_argument("--seed", type=int, help="the first of them; default: any")
    parser.add_argument("--faces", type=int, default=7_000, help="in each run")
    parser.add_argument("--faults", type=int, default=110, help="in each run")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="how long the faces of a run take to go in"
    )
    parser.add_argument("--s3-server", help="a versitygw program")


def measure(options: argparse.Namespace) -> Part:
    """Play all runs and compare."""
    configure_logging("benchmark", "error", "console")
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    reports = play(range(first, first + options.seeds), options)
    return Part(
        "custody",
        "Custody: not one face lost, not one stored twice",
        about(reports, options),
        figures(reports),
        (faces_table(reports), faults_table(reports)),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
