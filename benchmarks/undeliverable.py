"""How fast good faces flow beside those that cannot be delivered.

    python -m benchmarks.undeliverable [--rounds 5] [--bad 1000] [--good 8000] [--live 5000]

A spool holds good faces, and among them faces of another device, faces that the broker refuses, faces larger
than it takes, and rows that were damaged on disk. The good ones drain, then new ones come, then another
backlog drains; each is compared with the same without the others, in turns.
"""

import argparse
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from benchmarks.draining import FACE_BYTES
from benchmarks.flowing import Flow, flow, prepare
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Table
from services.common.logging import configure_logging
from tests.custody.faces import known_face
from tests.custody.undeliverable import LARGE_FACE_BYTES, MAX_PACKET_BYTES, SORTS, undeliverable

LEAST_SHARE = 0.9
NONE, ALL = "none", "all of them"
RATES = ("a backlog among them", "live", "a backlog beside them")
ABOUT = """
A spool on disk holds {good:,} good faces of 20 kB, and strewn among them {bad:,} that cannot be delivered, of
one sort or of each: whole faces of another device; faces of a camera for which the broker's access rules say
no; faces of {large} kB where the broker takes packets of {limit} kB; rows whose JSON was damaged by a byte,
or whose topic or id was. forward starts on it, with all that it needs; a bare subscriber receipts what
arrives. When the good ones are there, {live:,} new faces are published as fast as they go; then forward is
killed, has as many good faces put into its spool as before, and is started again. So the first backlog drains
while forward finds out what it cannot deliver, and the second when it knows. Rates are counted at the
subscriber, from the first good face to the last; the ways take turns, {rounds} times each, another one first
each time, and medians count.
"""


def ways() -> dict[str, tuple[str, ...]]:
    """Return what is in the spool beside good faces, by name."""
    return {NONE: (), **{sort: (sort,) for sort in SORTS}, ALL: tuple(SORTS)}


async def flow_all(options: argparse.Namespace, folder: Path) -> dict[str, list[Flow]]:
    """Let good faces flow beside each sort, all sorts and none, in turns."""
    good = [known_face("good", number, FACE_BYTES) for number in range(options.good)]
    live = [known_face("live", number, FACE_BYTES) for number in range(options.live)]
    later = [known_face("later", number, FACE_BYTES) for number in range(options.good)]
    for name, sorts in ways().items():
        bad = [row for sort in sorts for row in undeliverable(sort, options.bad, FACE_BYTES)]
        (folder / name).mkdir()
        await prepare(folder / name, good, bad)
    found: dict[str, list[Flow]] = {name: [] for name in ways()}
    for number in range(options.rounds):
        turns = deque(ways())
        turns.rotate(-number)
        for name in turns:
            found[name].append(await flow(folder / name, good, live, later))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def figures(found: Mapping[str, Sequence[Flow]]) -> tuple[Figure, ...]:
    """Return the claims: nothing that cannot be delivered slows down what can."""
    finding, live, knowing = _shares(found, ALL)
    limits = "Each is read from the disk and moved aside once, in the same database and by the same thread."
    return (
        Figure("a backlog among all sorts, times without", finding, "more", LEAST_SHARE, limits=limits),
        Figure("live faces beside all sorts, times without", live, "more", LEAST_SHARE),
        Figure("a backlog beside all sorts, times without", knowing, "more", LEAST_SHARE),
        Figure(
            "good faces that did not arrive",
            sum(each.missing for flows in found.values() for each in flows),
            "less",
            0,
        ),
    )


def table(found: Mapping[str, Sequence[Flow]]) -> Table:
    """Return the medians, a row for each way."""
    return Table(
        "Good faces beside others",
        (
            "in the spool beside them",
            *(column for name in RATES for column in (name, "times none")),
            "missing",
        ),
        tuple(
            (
                name,
                *(
                    cell
                    for rate, share in zip(_medians(flows), _shares(found, name), strict=True)
                    for cell in (rate, share)
                ),
                sum(each.missing for each in flows),
            )
            for name, flows in found.items()
        ),
        "All in faces a second. *Missing* are good faces that had not arrived after a minute, all rounds"
        " together.",
    )


def _medians(flows: Sequence[Flow]) -> list[float]:
    """Return the medians of the rates, in the order of `RATES`."""
    rates = [(each.finding_per_s, each.live_per_s, each.knowing_per_s) for each in flows]
    return [statistics.median(values) for values in zip(*rates, strict=True)]


def _shares(found: Mapping[str, Sequence[Flow]], name: str) -> list[float]:
    """Return a way's medians as shares of those without bad faces."""
    pairs = zip(_medians(found[name]), _medians(found[NONE]), strict=True)
    return [beside / without for beside, without in pairs]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often, and how many."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bad", type=int, default=1_000, help="of each sort")
    parser.add_argument("--good", type=int, default=8_000, help="in each backlog")
    parser.add_argument("--live", type=int, default=5_000, help="published afterwards")


def measure(options: argparse.Namespace) -> Part:
    """Let good faces flow beside bad ones of each sort, and beside none."""
    configure_logging("benchmark", "error", "console")
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        found = uvloop.run(flow_all(options, Path(folder)))
    about = ABOUT.format(
        good=options.good,
        bad=options.bad,
        live=options.live,
        rounds=options.rounds,
        large=LARGE_FACE_BYTES // 1_000,
        limit=MAX_PACKET_BYTES // 1_000,
    )
    return Part(
        "undeliverable",
        "Forward: good faces beside undeliverable ones",
        about,
        figures(found),
        (table(found),),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
