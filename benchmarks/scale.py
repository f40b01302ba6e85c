"""How the cost of a face grows with the number of devices, with one store or two.

    python -m benchmarks.scale [--rounds 2] [--seconds 10] [--devices 1,10,100,1000,10000] [--stores 1,2]
        [--faces-a-s 180]

One broker, the stores, one real forward and many simulated devices, which always send the same number of
faces in all, so that only the number of devices changes; every face has to be receipted. The processors are
idle half the time, so that the figures show cost and not queueing.
"""

import argparse
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.devices import Cost, cost_of
from benchmarks.report.alone import alone, in_turns
from tests.rigs.pipeline import median, quantile
from tests.rigs.report.findings import Cell, Figure, Part, Table

MOST_RISE = 1.15
SERVERS = ("store", "forward", "cloud")
Costs = Mapping[str, Sequence[Cost]]
"""By devices and stores."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=2, help="the median of so many counts")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--devices", type=_counts, default="1,10,100,1000,10000", help="how many, in turns")
    parser.add_argument("--faces-a-s", type=float, default=180.0, help="of all simulated devices together")
    parser.add_argument("--stores", type=_counts, default="1,2", help="how many share the work")


def measure(options: argparse.Namespace) -> Part:
    """Measure with each number of devices and stores."""
    # Files of this process and those that it starts: as many as so many connections need.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * max(options.devices))), hard))
    with tempfile.TemporaryDirectory(prefix="faceferry-") as name:
        ways = {
            _way(devices, stores): partial(_cost, options, devices, stores, Path(name))
            for stores in options.stores
            for devices in options.devices
        }
        costs = in_turns(ways, options.rounds)
    figures, tables = tuple(_figures(options, costs)), (_table(costs),)
    return Part("scale", "What grows as work grows", figures=figures, tables=tables)


def _way(devices: int, stores: int) -> str:
    return f"{devices:,} with {'one store' if stores == 1 else f'{stores} stores'}"


def _cost(options: argparse.Namespace, devices: int, stores: int, scratch: Path, _round: int) -> Cost:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    return uvloop.run(cost_of(devices, stores, options.faces_a_s, options.seconds, folder))


def _figures(options: argparse.Namespace, costs: Costs) -> Iterator[Figure]:
    few, many = min(options.devices), max(options.devices)
    for stores in options.stores:
        for part in ("store", "forward"):
            rise = _cpu_ms(costs[_way(many, stores)], part) / _cpu_ms(costs[_way(few, stores)], part)
            name = f"{part}: CPU a face, {many:,} devices over {few}, {stores} store(s)"
            yield Figure(name, rise, "less", MOST_RISE if stores == 1 else None)


def _table(costs: Costs) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            way,
            *(_cpu_ms(runs, part) for part in SERVERS),
            median([run.faces_a_receipt for run in runs]),
            *(median([quantile(run.receipt_ms, share) for run in runs]) for share in (0.5, 0.99)),
            *(median([run.resident_mb[part] for run in runs]) for part in SERVERS),
            median([run.busy * 100 for run in runs]),
        )
        for way, runs in costs.items()
    ]
    parts = ("store", "forward", "cloud broker")
    columns = (
        *("devices", *(f"{part}, CPU ms a face" for part in parts), "faces a receipt"),
        *("receipt, ms: p50", "p99", *(f"{part}, MB" for part in parts), "processors busy, %"),
    )
    return Table("The same faces from more and more devices", columns, tuple(rows))


def _cpu_ms(costs: Sequence[Cost], part: str) -> float:
    return median([cost.cpu_ms[part] for cost in costs])


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(int, filter(None, text.split(","))))


if __name__ == "__main__":
    raise SystemExit(alone(__doc__, measure, add_options))
