"""How fast a backlog drains after an outage: forward and Mosquitto's own bridge, side by side.

    python -m benchmarks.forward [--rounds 3] [--seconds 10] [--faces 8000] [--bad 1000]
        [--shapes 0/0,10/20,10/200,100/20,100/200]

The receiver, a bare subscriber that receipts in both cases, counts what comes in: the images alone, from the
first face to the last, the start included. While the backlog drains, new faces are published. Then forward
drains a backlog on bare loopback with and without faces that cannot be delivered, of each kind.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import uvloop

from benchmarks.draining import BRIDGE, FACE_BYTES, OURS, TUNED_BRIDGE, Drain, Road, drain
from benchmarks.report.alone import alone, in_turns
from services.common.wire.faces import Face
from tests.custody.damage import Row
from tests.custody.faces import known_face
from tests.custody.undeliverable import SORTS, undeliverable
from tests.rigs.pipeline import median
from tests.rigs.report.findings import Cell, Figure, Part, Table

LEAST_OF_CAPACITY, LEAST_OF_BRIDGE, LEAST_BESIDE_BAD, MOST_WAIT = 0.9, 0.2, 0.9, 0.2
WITHOUT, BESIDE = "forward, nothing undeliverable", "forward, all sorts of undeliverable faces among them"
WAYS = (OURS, BRIDGE, TUNED_BRIDGE)
Drains = Mapping[str, Sequence[Drain]]
"""By `road: way`."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options: how often, how long and over which links."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long a full link has work")
    parser.add_argument("--faces", type=int, default=8_000, help="the backlog on bare loopback")
    parser.add_argument("--bad", type=int, default=1_000, help="undeliverable faces of each sort")
    parser.add_argument("--shapes", type=_roads, default="0/0,10/20,10/200,100/20,100/200")


def measure(options: argparse.Namespace) -> Part:
    """Drain backlogs over every link, with forward and with the bridge."""
    counts = {
        road: int(road.bytes_per_s * options.seconds / FACE_BYTES) or options.faces for road in options.shapes
    }
    backlog = [known_face(0, number, FACE_BYTES) for number in range(max(counts.values()))]
    bad = [row for sort in SORTS for row in undeliverable(sort, options.bad, FACE_BYTES)]
    ways: dict[str, Callable[[int], Drain]] = {
        f"{road}: {way}": partial(_drain, way, road, backlog[:count], None)
        for road, count in counts.items()
        for way in WAYS
    }
    ways[WITHOUT] = partial(_drain, OURS, Road(), backlog[: options.faces], [])
    ways[BESIDE] = partial(_drain, OURS, Road(), backlog[: options.faces], bad)
    found = in_turns(ways, options.rounds)
    return Part(
        "forward",
        "Forward: draining a backlog of 20 kB faces",
        figures=tuple(_figures(options.shapes, found)),
        tables=(_table(options.shapes, found),),
    )


def _drain(way: str, road: Road, backlog: Sequence[Face], bad: Sequence[Row] | None, _round: int) -> Drain:
    return uvloop.run(drain(way, road, backlog, bad))


def _figures(roads: Sequence[Road], found: Drains) -> Iterator[Figure]:
    for road in roads:
        ours, *bridges = (_bytes_per_s(found[f"{road}: {way}"]) for way in WAYS)
        if road.megabits_s:
            name = f"forward's share of the link, {road}"
            yield Figure(name, ours / road.bytes_per_s, "more", LEAST_OF_CAPACITY)
            longest_s = [max(_waits_s(found[f"{road}: {way}"]), default=0.0) for way in WAYS]
            name = f"longest wait of a new face, in parts of the bridge's, {road}"
            yield Figure(name, longest_s[0] / max(*longest_s[1:], 1e-9), "less", MOST_WAIT)
        else:
            name = f"forward's rate, times the faster bridge's, {road}"
            yield Figure(name, ours / max(bridges), "more", LEAST_OF_BRIDGE)
    beside = _bytes_per_s(found[BESIDE]) / _bytes_per_s(found[WITHOUT])
    yield Figure(
        "rate of good faces among undeliverable ones, times without", beside, "more", LEAST_BESIDE_BAD
    )


def _table(roads: Sequence[Road], found: Drains) -> Table:
    shared = {f"{road}: {way}": road.bytes_per_s for road in roads for way in WAYS}
    rows: list[tuple[Cell, ...]] = []
    for name, drains in found.items():
        new_s = _waits_s(drains)
        capacity = shared.get(name)
        rows.append(
            (
                name,
                median([each.faces_per_s for each in drains]),
                _bytes_per_s(drains) / capacity if capacity else None,
                median(new_s) if new_s else None,
                max(new_s, default=None),
            )
        )
    columns = ("link and way", "faces/s", "share of the link", "new face: median, s", "longest, s")
    return Table("A backlog drains", columns, tuple(rows))


def _waits_s(drains: Sequence[Drain]) -> list[float]:
    return [took_s for each in drains for took_s in each.new_face_s]


def _bytes_per_s(drains: Sequence[Drain]) -> float:
    return median([each.bytes_per_s for each in drains])


def _roads(text: str) -> list[Road]:
    """Read `0/0,10/20`: megabits a second and round trip in milliseconds; 0/0 is bare loopback."""
    return [Road(*map(int, part.split("/"))) for part in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
