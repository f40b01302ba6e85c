"""The long custody test: known faces, while everything that can fail fails at random.

    python -m benchmarks.custody [--seeds 3] [--seed N] [--faces 7000] [--faults 130] [--seconds 150]
        [--full-seconds 150] [--keep both] [--sealed] [--only FAULT ...] [--no-readiness]
        [--brokers 1] [--alone]

A driver in detect's place publishes faces, each different; forward, store, both brokers, the link, the
bucket, the spool's disk and files and the clocks fail meanwhile. When all faults have ended the bucket is
compared with what was published, byte for byte. Then the comparison itself is tested with damaged buckets;
and each kind of fault that stops a service happens once more, alone, while all services are asked for
`/readyz`. Needs root for the spool's small disk, and libfaketime; faults that are not possible are left out,
and reported.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report.alone import alone
from services.common.sealing.age import new_identity
from tests.custody.clouds import strangers
from tests.custody.readiness import NOTICED_S, Verdict
from tests.custody.report import Report
from tests.custody.run import run
from tests.custody.sequence import play_alone
from tests.rigs.report.findings import Cell, Figure, Part, Table
from tests.rigs.servers import needed_s3_server

MODES = ("visits", "every")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: how many runs, and how large each is."""
    parser.add_argument("--seeds", type=int, default=3, help="runs, each with the next seed")
    parser.add_argument("--seed", type=int, help="the first of them; default: any")
    parser.add_argument("--faces", type=int, default=7_000, help="in each run")
    parser.add_argument("--faults", type=int, default=130, help="in each run")
    parser.add_argument("--seconds", type=float, default=150.0, help="that a run's faces take to go in")
    parser.add_argument("--full-seconds", type=float, default=150.0, help="that a disk is full for long")
    parser.add_argument("--keep", choices=["both", *MODES], default="both", help="both: runs take turns")
    parser.add_argument("--sealed", action="store_true", help="faces are sealed, for a key that nobody has")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help="this kind; repeatable")
    parser.add_argument("--no-readiness", action="store_true", help="leave out the faults one by one")
    parser.add_argument("--brokers", type=int, default=1, help="in the cloud, none of which knows of another")
    parser.add_argument("--alone", action="store_true", help="one fault at a time")


def measure(options: argparse.Namespace) -> Part:
    """Play all runs and compare."""
    program = needed_s3_server()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    modes = itertools.cycle(MODES if options.keep == "both" else [options.keep])
    reports = [_play(options, program, seed, next(modes)) for seed in range(first, first + options.seeds)]
    verdicts = [] if options.no_readiness else _play_readiness(options, program)
    missing = sorted({why for report in reports for why in report.missing.values()})
    return Part(
        "custody",
        "Custody: not one face lost, not one stored twice",
        f"Left out on this machine: {'; '.join(missing)}." if missing else "",
        (*_figures(reports), *(_readiness_figures(verdicts) if verdicts else ())),
        (*(_tables(reports) if reports else ()), *((_readiness_table(verdicts),) if verdicts else ())),
    )


def _play(options: argparse.Namespace, program: str, seed: int, keep: str) -> Report:
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        playing = run(
            Path(folder),
            program,
            seed,
            faces=options.faces,
            faults=options.faults,
            seconds=options.seconds,
            full_s=(options.full_seconds, options.full_seconds),
            only=options.only,
            keep=keep,
            make_clouds=strangers(options.brokers),
            alone=options.alone,
            # The private key is nowhere.
            sealed_to=new_identity()[1] if options.sealed else None,
        )
        report = asyncio.run(playing)
    print(report.as_text(), file=sys.stderr, flush=True)
    return report


def _play_readiness(options: argparse.Namespace, program: str) -> list[Verdict]:
    """Play each kind of fault that stops a service alone; return what the services reported."""
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        return asyncio.run(play_alone(Path(folder), program, only=options.only))


def _figures(reports: Sequence[Report]) -> Iterator[Figure]:
    """Yield the counts that must be 0, over all runs."""
    limits = f"`--seed {reports[0].seed}` draws the same faults again" if reports else ""
    missed = sum(len(report.control_missed) for report in reports if report.control_missed is not None)
    counts = {
        "faces lost": sum(report.lost + report.unoffered for report in reports),
        "faces stored twice": sum(report.duplicates for report in reports),
        "faces whose bytes differ": sum(report.differing for report in reports),
        "objects that nobody published": sum(report.unexpected for report in reports),
        "changes to the bucket that the judge did not see": missed,
    }
    for name, count in counts.items():
        yield Figure(name, count, "less", 0, limits=limits)


def _tables(reports: Sequence[Report]) -> tuple[Table, ...]:
    faces: list[tuple[Cell, ...]] = [
        (
            *(str(report.seed), report.keep, report.faces, len(report.events)),
            report.answered if report.asked else None,
            report.lost + report.unoffered,
            *(report.duplicates, report.differing, report.unexpected, report.sent_again),
            *(report.typical_s, report.longest_s),
        )
        for report in reports
    ]
    of_faces = (
        *(
            "seed",
            "mode",
            "faces",
            "faults",
            "questions answered",
            "lost",
            "twice",
            "bytes differ",
            "nobody's",
        ),
        *("sent again", "median, s", "longest, s"),
    )
    faults = sum((report.faults for report in reports), Counter[str]())
    return (
        Table("What became of the faces", of_faces, tuple(faces)),
        Table("Faults, all seeds together", ("fault", "times"), tuple(sorted(faults.items()))),
    )


def _readiness_figures(verdicts: Sequence[Verdict]) -> Iterator[Figure]:
    """Yield whether the services reported the fault, and how soon."""
    untrue = sorted({f"{each.service} ({each.fault})" for each in verdicts if not each.is_true})
    late = "answers of `/readyz` that were late, wrong or repeated"
    yield Figure(late, sum(not each.is_true for each in verdicts), "less", 0, limits=", ".join(untrue))
    changes = max((each.changes for each in verdicts), default=0)
    yield Figure("most changes of one service in one fault, each way", changes, "less", 1)
    not_ready_s = [
        each.false_after_s for each in verdicts if each.is_stopped and each.false_after_s is not None
    ]
    ready_s = [each.true_after_s for each in verdicts if each.true_after_s is not None]
    for name, took_s in (("not ready", not_ready_s), ("ready again", ready_s)):
        yield Figure(f"longest until a service was {name}", max(took_s, default=0.0), "less", NOTICED_S, "s")


def _readiness_table(verdicts: Sequence[Verdict]) -> Table:
    """Return what each service reported in each fault that stops it, and in others where that changed."""
    told = [each for each in verdicts if each.is_stopped or each.changes]
    rows: list[tuple[Cell, ...]] = [
        (
            *(each.fault, each.service, "yes" if each.is_stopped else "no"),
            *(each.false_after_s, each.true_after_s, each.changes, "yes" if each.is_true else "**no**"),
        )
        for each in sorted(told, key=lambda each: (each.fault, each.service))
    ]
    columns = ("fault", "service", "stopped", "not ready after, s", "ready again after, s", "changes", "true")
    return Table("Is `/readyz` true?", columns, tuple(rows))


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
