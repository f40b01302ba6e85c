"""How fast a backlog drains after an outage: forward and Mosquitto's own bridge, side by side.

    python -m benchmarks.forward [--rounds 3] [--seconds 10] [--faces 10000] [--shapes 10/20,100/200]

The receiver, a bare subscriber that receipts in both cases, counts what comes in. The rate is that of the
images alone, from the first face to the last, the start included. While the backlog drains, new faces are
published.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.draining import FACE_BYTES, OURS, WAYS, Drain, Road, drain
from benchmarks.report.alone import alone
from benchmarks.report.findings import Figure, Part, Plot, Table
from services.common.logging import configure_logging
from tests.custody.faces import known_face

LEAST_OF_CAPACITY = 0.9
LEAST_OF_BRIDGE = 0.2
MOST_NEW_FACE_S = 2.0
ABOUT = """
Faces of 20 kB wait at the edge until the link comes up, in forward's spool on disk or in the memory of a
Mosquitto that bridges; a bare subscriber in the cloud receipts what arrives. The link is a proxy with a
capacity, a round trip and a queue of 20 ms, with work for {seconds:g} s, or bare loopback with {faces:,}
faces; the ways take turns, {rounds} times each, and medians count (of the new faces' waits, also the longest
of all). The rate and the share are those of the images alone, from the first face to the last, the start
included; every second a new face is published, and timed until it is at the subscriber. The bridge speaks
MQTT 5 with Mosquitto's default window of 20 messages, and with 1,000, all that the cloud broker takes; its
queue is unlimited in both, for with the default one it drops all but 1,000 faces. Every face is a JPEG of its
own, from seed 0.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Several drains of one road and way: medians, and the longest that any new face took."""

    road: Road
    way: str
    faces_per_s: float
    bytes_per_s: float
    new_face_median_s: float | None
    new_face_most_s: float | None

    @property
    def of_capacity(self) -> float | None:
        """The share of the road's capacity; nothing for bare loopback."""
        return self.bytes_per_s / self.road.bytes_per_s if self.road.megabits_s else None


async def drain_all(roads: Sequence[Road], rounds: int, seconds: float, faces: int) -> list[Row]:
    """Drain on every road in every way, in turns; return one row for each road and way."""
    found: dict[tuple[Road, str], list[Drain]] = defaultdict(list)
    counts = {road: int(road.bytes_per_s * seconds / FACE_BYTES) or faces for road in roads}
    backlog = [known_face(0, number, FACE_BYTES) for number in range(max(counts.values()))]
    for _ in range(rounds):
        for road in roads:
            for way in WAYS:
                done = await drain(way, road, backlog[: counts[road]])
                found[road, way].append(done)
                print(f"{road}: {way}: {done.bytes_per_s / 1e6:.2f} MB/s", file=sys.stderr)
    return [summary(road, way, found[road, way]) for road in roads for way in WAYS]


def summary(road: Road, way: str, drains: Sequence[Drain]) -> Row:
    """Return what several drains of one kind come to."""
    new_s = [took_s for each in drains for took_s in each.new_face_s]
    return Row(
        road,
        way,
        statistics.median(each.faces_per_s for each in drains),
        statistics.median(each.bytes_per_s for each in drains),
        statistics.median(new_s) if new_s else None,
        max(new_s, default=None),
    )


def figures(rows: Sequence[Row]) -> tuple[Figure, ...]:
    """Return what is claimed of forward."""
    ours = [row for row in rows if row.way == OURS]
    return (
        *(_share(row.road, row.of_capacity) for row in ours if row.of_capacity is not None),
        *(_beside_bridges(row, rows) for row in ours if row.of_capacity is None),
        *_longest_wait(ours),
    )


def _share(road: Road, of_capacity: float) -> Figure:
    return Figure(
        f"forward's share of the link, {road}",
        of_capacity,
        "more",
        LEAST_OF_CAPACITY,
        limits="Only the images' bytes count, and so does the start, in which the window opens with the"
        " receipts; what a bridge leaves free on the same link is what the protocol's headers take.",
    )


def _beside_bridges(ours: Row, rows: Sequence[Row]) -> Figure:
    bridge = max(row.bytes_per_s for row in rows if row.road == ours.road and row.way != OURS)
    return Figure(
        f"forward's rate, times the faster bridge's, {ours.road}",
        ours.bytes_per_s / bridge,
        "more",
        LEAST_OF_BRIDGE,
        limits="forward reads each face from its disk and takes it off on its receipt, in Python; the bridge"
        " copies from memory, in C.",
    )


def _longest_wait(ours: Sequence[Row]) -> Iterator[Figure]:
    """One figure, if the backlogs were long enough for a new face."""
    waits_s = [row.new_face_most_s for row in ours if row.new_face_most_s is not None]
    if waits_s:
        yield Figure(
            "longest wait of a new face with forward, on any link",
            max(waits_s),
            "less",
            MOST_NEW_FACE_S,
            "s",
            "A new face overtakes what is in the spool, but waits for what is already under way: a window of"
            " one round trip and 0.4 s.",
        )


def table(rows: Sequence[Row]) -> Table:
    """Return all that was measured."""
    return Table(
        "A backlog drains",
        ("link", "way", "faces/s", "share of the link", "new face: median, s", "new face: longest, s"),
        tuple(
            (
                str(row.road),
                row.way,
                row.faces_per_s,
                row.of_capacity,
                row.new_face_median_s,
                row.new_face_most_s,
            )
            for row in rows
        ),
        "forward holds every face on disk until it is receipted and lets new ones overtake the backlog; a"
        " bridge does neither: it holds faces in memory, and sends new ones last. On bare loopback brokers"
        " and subscriber, which is written in Python, take their time from the same cores as the sender.",
    )


def plot(rows: Sequence[Row]) -> Plot:
    """Return the longest waits, a bar for each road and way, in its way's colour."""
    bars = [
        (f"{row.road}: {row.way.removeprefix('Mosquitto ')}", row)
        for row in rows
        if row.new_face_most_s is not None
    ]
    return Plot(
        "forward-wait",
        "Longest wait of a new face while a backlog drains",
        "bars",
        "",
        "seconds from its publication to the subscriber",
        {
            way: tuple((name, row.new_face_most_s or 0.0) for name, row in bars if row.way == way)
            for way in WAYS
        },
    )


def parse_roads(text: str) -> list[Road]:
    """Read `0/0,10/20`: megabits a second and round trip in milliseconds; 0/0 is bare loopback."""
    return [Road(*map(int, part.split("/"))) for part in text.split(",")]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how often, how long and over which links."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long a full link has work")
    parser.add_argument("--faces", type=int, default=10_000, help="the backlog on bare loopback")
    parser.add_argument("--shapes", type=parse_roads, default="0/0,10/20,10/200,100/20,100/200")


def measure(options: argparse.Namespace) -> Part:
    """Drain backlogs over every road, in every way."""
    configure_logging("benchmark", "error", "console")
    rows = uvloop.run(drain_all(options.shapes, options.rounds, options.seconds, options.faces))
    about = ABOUT.format(rounds=options.rounds, seconds=options.seconds, faces=options.faces)
    return Part(
        "forward",
        "Forward: draining a backlog of 20 kB faces",
        about,
        figures(rows),
        (table(rows),),
        (plot(rows),),
    )


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
