"""The custody proof in its long form: known faces, and everything that can fail, failing at random.

    python -m benchmarks.custody [--seeds 3] [--seed N] [--faces 7000] [--faults 130] [--seconds 150]
        [--full-seconds 150] [--keep both] [--sealed] [--only FAULT ...] [--no-readiness]
        [--s3-server PROGRAM] [--brokers 1] [--alone]

A driver in detect's place publishes faces, each of its own; forward, store, both brokers, the link, the
bucket, the spool's disk and files and the clocks fail meanwhile. When all is well again the bucket is
compared with what was published, byte for byte. Then the judge is shown what it has to see; and each kind of
fault that stops a service happens once more, alone, while all services are asked whether they are ready.
Needs root for the spool's small disk, and libfaketime; what cannot be had is left out, and said.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Table
from benchmarks.servers import find_s3_server
from services.common.age import new_identity
from services.common.logging import configure_logging
from tests.custody.clouds import strangers
from tests.custody.damage import HARMS
from tests.custody.readiness import NOTICED_S, Verdict
from tests.custody.report import Report
from tests.custody.run import run
from tests.custody.sequence import play_alone
from tests.custody.spool_faults import PLANTED

MODES = ("visits", "every")
ABOUT = """
A driver in detect's place publishes known faces, each of its own, 0.5 to 20 kB and every fortieth of 40 to
100 kB, holds each until forward has receipted it, and publishes it again, as detect does: {faces:,} in each
run. With a few pictures of each visit (mode `visits`) it asks forward before each face, as detect does, and
publishes them all: what is not wanted may not be lost either, once it is there. Meanwhile faults are drawn
from the run's seed ({seeds}), {faults} of them, one every {pause_s:.1f} seconds on average and a few at a
time, so that no custodian has a quiet moment. When the last is healed, the run waits until forward holds
nothing, and compares every object in the bucket with what was published: key, bytes, and that nothing else is
there. Both brokers are real Mosquittos with `persistence false`, that in the cloud with the access rules of
compose/cloud; the bucket is a real S3 server (versitygw), forward and store
are processes of their own.

After each run the judge is judged: in the bucket that it has called perfect one face is deleted, one changed
by a bit, one copied to another key and a stranger's put beside them, one after the other, and it has to say
each.
"""
OF_FAULTS = """
*Killed* is SIGKILL, *stopped* is SIGSTOP for 23 to 26 s, longer than a broker waits for a client. A
*half-open* link swallows bytes and resets nothing; connections that lost bytes stay dead after it is healed.
A *slow* link carries 20 to 400 kB/s with 50 or 500 ms one way; a *flapping* one is reset every 20 to 400 ms.
A *small packet limit* is 16 to 60 kB. The spool's disk is a tmpfs of 64 MiB, filled to its last byte; *for
long* is {full_s:g} s, in which it is filled again fifty times a second, so that the reserve and whatever
deletes free is eaten; then it is drained for a moment, and full again. *Damaged rows* are put into the spool
by the fault, with JSON, UTF-8, topics, types or images that are wrong by a byte or more. For the *damaged
file* forward is killed; {planted} whole faces and some damaged rows are put into its spool, which then loses
its header, its version, a page or its end. What no SQLite can find there any more, row by row, is what the
fault destroyed. Damage is chosen so that it takes none of the faces that are only there; of those that were
put there all others are demanded of the bucket. *Lock deleted*: whatever looks like a lock is removed from
the spool's folder, and a second forward is started on it: in the first one's place; or beside it, while the
first hangs and then goes on, with the link cut until both are killed. *A wrong device name*: forward and its
faces are called something that the cloud's broker does not let in; when it is right again, `faceferry spool
requeue` puts them back. A bucket that *says 200* answers like a login page, a wrong port or a server that
has not stored; a *captive portal* answers so in the place of bucket and broker; *keys rotated*: the bucket
takes new ones, and store's file has them later. The clock is stepped a day under running processes (forward
and its broker, or store and its broker) by libfaketime.
"""
READINESS = """
Each kind that stops a service's work, alone, for 8 to 12 s, while ten faces a second flow; `/readyz` of all
four services is asked every 0.2 s. *Not ready* and *ready again* are counted from the fault's start and its
end; *changes* is how often it went either way until 7 s after it. A service that a fault does not stop may
say that it does, but not twice.
"""


def play(seeds: Sequence[int], options: argparse.Namespace) -> list[Report]:
    """Play a run of each seed, and say how it went."""
    program = options.s3_server or find_s3_server()
    if program is None:
        sys.exit("no S3 server: name a versitygw program with --s3-server")
    reports: list[Report] = []
    modes = itertools.cycle(MODES if options.keep == "both" else [options.keep])
    for seed, keep in zip(seeds, modes, strict=False):
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
        "faces lost": sum(report.lost + report.unoffered for report in reports),
        "faces stored twice": sum(report.duplicates for report in reports),
        "faces whose bytes differ": sum(report.differing for report in reports),
        "objects that nobody published": sum(report.unexpected for report in reports),
    }
    missed = sum(len(report.control_missed) for report in reports if report.control_missed is not None)
    return (
        *(Figure(name, count, "less", 0, limits=limits) for name, count in counts.items()),
        Figure("changes to the bucket that the judge did not see", missed, "less", 0),
    )


def faces_table(reports: Sequence[Report]) -> Table:
    """Return what became of the faces, a row for each seed."""
    return Table(
        "What became of the faces",
        (
            "seed",
            "mode",
            "faces",
            "faults",
            "questions answered",
            "lost",
            "twice",
            "bytes differ",
            "nobody's",
            "sent again",
            "median, s",
            "longest, s",
        ),
        tuple(_row(report) for report in reports),
        "*Lost* includes those that could not even be published; *sent again* is how often faces went over"
        " the link that had before; *median* and *longest* run from the first publication to the object in"
        " the bucket, and say how much of the time something was broken.",
    )


def _row(report: Report) -> tuple[Cell, ...]:
    return (
        str(report.seed),
        report.keep,
        report.faces,
        len(report.events),
        report.answered if report.asked else None,
        report.lost + report.unoffered,
        report.duplicates,
        report.differing,
        report.unexpected,
        report.sent_again,
        report.typical_s,
        report.longest_s,
    )


def disk_table(reports: Sequence[Report]) -> Table:
    """Return what was done to the spool's files, a row for each seed."""
    return Table(
        "What was done to the spool's files",
        ("seed", "faces put there", "destroyed there", "damaged rows", "put back", *HARMS),
        tuple(
            (
                str(report.seed),
                report.planted,
                report.destroyed,
                report.spoilt,
                report.requeues,
                *(report.harms.get(kind, 0) for kind in HARMS),
            )
            for report in reports
        ),
        "*Put back* is how often `faceferry spool requeue` was called.",
    )


def readiness_figures(verdicts: Sequence[Verdict]) -> tuple[Figure, ...]:
    """Return whether the services said what was so."""
    stopped = [verdict for verdict in verdicts if verdict.is_stopped]
    untrue = sorted({f"{each.service} ({each.fault})" for each in verdicts if not each.is_true})
    return (
        Figure(
            "answers of `/readyz` that were late, wrong or repeated",
            sum(not each.is_true for each in verdicts),
            "less",
            0,
            limits=", ".join(untrue),
        ),
        Figure(
            "longest until a service was not ready",
            max((each.false_after_s for each in stopped if each.false_after_s is not None), default=0.0),
            "less",
            NOTICED_S,
            "s",
        ),
        Figure(
            "longest until it was ready again",
            max((each.true_after_s for each in verdicts if each.true_after_s is not None), default=0.0),
            "less",
            NOTICED_S,
            "s",
        ),
        Figure("most changes of one service in one fault, each way", _most_changes(verdicts), "less", 1),
    )


def _most_changes(verdicts: Sequence[Verdict]) -> int:
    return max((each.changes for each in verdicts), default=0)


def readiness_table(verdicts: Sequence[Verdict]) -> Table:
    """Return what each service said of each fault that stops it, and of others where it changed."""
    told = [each for each in verdicts if each.is_stopped or each.changes]
    return Table(
        "Is `/readyz` true?",
        ("fault", "service", "stopped", "not ready after, s", "ready again after, s", "changes", "true"),
        tuple(
            (
                each.fault,
                each.service,
                "yes" if each.is_stopped else "no",
                each.false_after_s,
                each.true_after_s,
                each.changes,
                "yes" if each.is_true else "**no**",
            )
            for each in sorted(told, key=lambda each: (each.fault, each.service))
        ),
        READINESS.strip(),
    )


def faults_table(reports: Sequence[Report], full_s: float) -> Table:
    """Return how often each kind of fault happened, in all runs together."""
    remark = OF_FAULTS.strip().format(full_s=full_s, planted=PLANTED)
    times = sum((report.faults for report in reports), Counter[str]())
    return Table("Faults, all seeds together", ("fault", "times"), tuple(sorted(times.items())), remark)


def _seeds(reports: Sequence[Report]) -> str:
    return ", ".join(str(report.seed) for report in reports)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many runs, and how large each is."""
    parser.add_argument("--seeds", type=int, default=3, help="runs, each with the next seed")
    parser.add_argument("--seed", type=int, help="the first of them; default: any")
    parser.add_argument("--faces", type=int, default=7_000, help="in each run")
    parser.add_argument("--faults", type=int, default=130, help="in each run")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="how long the faces of a run take to go in"
    )
    parser.add_argument(
        "--full-seconds", type=float, default=150.0, help="how long the disk is full for long, in each run"
    )
    parser.add_argument("--keep", choices=["both", *MODES], default="both", help="both: runs take turns")
    parser.add_argument("--sealed", action="store_true", help="faces are sealed, for a key that nobody has")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help="this kind; repeatable")
    parser.add_argument(
        "--no-readiness", action="store_true", help="leave out the faults that happen one by one"
    )
    parser.add_argument("--s3-server", help="a versitygw program")
    parser.add_argument("--brokers", type=int, default=1, help="in the cloud, none of which knows of another")
    parser.add_argument(
        "--alone", action="store_true", help="one fault after the other, each once all is well again"
    )


def play_readiness(options: argparse.Namespace) -> list[Verdict]:
    """Let each kind of fault that stops something happen alone; return what the services said."""
    program = options.s3_server or find_s3_server()
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        return asyncio.run(play_alone(Path(folder), program or "", only=options.only))


def measure(options: argparse.Namespace) -> Part:
    """Play all runs and compare."""
    configure_logging("benchmark", "error", "console")
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    reports = play(range(first, first + options.seeds), options)
    verdicts = [] if options.no_readiness else play_readiness(options)
    return Part(
        "custody",
        "Custody: not one face lost, not one stored twice",
        about(reports, options),
        (*figures(reports), *(readiness_figures(verdicts) if verdicts else ())),
        (
            *((faces_table(reports), disk_table(reports)) if reports else ()),
            *((faults_table(reports, options.full_seconds),) if reports else ()),
            *((readiness_table(verdicts),) if verdicts else ()),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
