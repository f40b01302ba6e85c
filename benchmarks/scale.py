"""How cost grows as work grows: more cameras on one host, more devices with one store or in one bucket.

    python -m benchmarks.scale [--rounds 2] [--seconds 10] [--cameras 1,2,4,8] [--devices 1,10,100,1000,10000]
        [--stores 1,2] [--crowds 10,1000,10000] [--keys 200000] [--s3-server PROGRAM] [--json FILE]

Cameras: the whole pipeline, each camera a looped recording played at its own speed. Devices: one broker, one
store or two, one real forward and many simulated devices, whose faces together are always as many, so that
only the number of devices changes. Both leave the processors idle half the time: the figures show cost and
not queueing. Buckets: a day's faces, always as many, of more and more devices, and what a look at them costs.
Ends with status 1 if a bound is not kept, or if a face has no receipt.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import uvloop

from benchmarks.bucket import LOOKS
from benchmarks.cameras import FRAMES_A_S, Watched, watch
from benchmarks.crowds import crowd_figures, crowds_table, look_at
from benchmarks.devices import FACES_A_S, REAL_FACES_A_S, Cost, allow_connections, cost_of
from benchmarks.report.alone import alone
from benchmarks.report.findings import Cell, Figure, Part, Plot, Point, Table
from benchmarks.rig import PARTS, median, quantile
from services.common.logging import configure_logging

MOST_RISE = 1.15
LINES = {
    **{part: (part,) for part in ("detect", "forward", "store", "capture")},
    "both brokers": ("local", "cloud"),
}
SERVERS = ("store", "forward", "cloud")
LIMITS = (
    "The store answers each device by itself, with one receipt for the faces of 20 ms: with one device a "
    "receipt names several faces, with many devices one, and costs as much."
)

Key = TypeVar("Key")
Measured = TypeVar("Measured")
Found = Mapping[tuple[int, int], Sequence[Cost]]
"""What was measured, by devices and stores."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--rounds", type=int, default=2, help="the median of so many counts")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--cameras", type=_counts, default="1,2,4,8", help="how many, one after the other")
    parser.add_argument("--devices", type=_counts, default="1,10,100,1000,10000", help="how many, likewise")
    parser.add_argument("--stores", type=_counts, default="1,2", help="how many share the work")
    parser.add_argument("--crowds", type=_counts, default="10,1000,10000", help="devices in a bucket")
    parser.add_argument("--keys", type=int, default=200_000, help="faces in it")
    parser.add_argument("--s3-server", help="a versitygw program")


def measure(options: argparse.Namespace) -> Part:
    """Measure all three."""
    configure_logging("benchmark", "error", "console")
    allow_connections(max(options.devices))
    ways = [(devices, stores) for stores in options.stores for devices in options.devices]
    with tempfile.TemporaryDirectory(prefix="faceferry-") as name:
        scratch = partial(_new_folder, Path(name))
        cameras = _in_turns(
            options.cameras, options.rounds, lambda count: watch(count, options.seconds, scratch())
        )
        devices = _in_turns(
            ways, options.rounds, lambda way: uvloop.run(cost_of(*way, options.seconds, scratch()))
        )
    crowds = look_at(options.crowds, options.keys, options.s3_server)
    return Part(
        name="scale",
        title="What grows as work grows",
        about=_about(options),
        figures=(*_device_figures(devices), _camera_figure(cameras), *crowd_figures(crowds)),
        tables=(
            _devices_table(devices),
            *_camera_tables(cameras, options.seconds),
            crowds_table(crowds, options.keys),
        ),
        plots=(_devices_plot(devices), _cameras_plot(cameras)),
    )


def _in_turns(
    ways: Sequence[Key], rounds: int, measured: Callable[[Key], Measured]
) -> dict[Key, list[Measured]]:
    """Measure all ways in each round, in every other round the last one first."""
    found: defaultdict[Key, list[Measured]] = defaultdict(list)
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            print(f"round {number + 1}: {way}", file=sys.stderr)
            found[way].append(measured(way))
    return found


def _new_folder(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


def _device_figures(found: Found) -> list[Figure]:
    few, many = min(devices for devices, _ in found), max(devices for devices, _ in found)
    return [
        Figure(
            f"{part}: CPU a face, {many:,} devices over {few}, {_stores(stores)}",
            _cpu_ms(found[many, stores], part) / _cpu_ms(found[few, stores], part),
            better="less",
            bound=MOST_RISE if stores == 1 else None,
            limits=LIMITS if part == "store" else "",
        )
        for stores in sorted({stores for _, stores in found})
        for part in ("store", "forward")
    ]


def _devices_table(found: Found) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{devices:,} with {_stores(stores)}",
            *(_cpu_ms(costs, part) for part in SERVERS),
            median([cost.faces_a_receipt for cost in costs]),
            *(median([quantile(cost.receipt_ms, share) for cost in costs]) for share in (0.5, 0.99)),
            *(median([cost.resident_mb[part] for cost in costs]) for part in SERVERS),
            median([cost.busy * 100 for cost in costs]),
        )
        for (devices, stores), costs in found.items()
    ]
    columns = (
        "devices",
        *(f"{part}, CPU ms a face" for part in ("store", "forward", "cloud broker")),
        "faces a receipt",
        *(f"receipt, ms: {share}" for share in ("p50", "p99")),
        *(f"{part}, MB" for part in ("store", "forward", "cloud broker")),
        "processors busy, %",
    )
    return Table("The same faces from more and more devices", columns, tuple(rows))


def _camera_figure(found: Mapping[int, Sequence[Watched]]) -> Figure:
    few, many = min(found), max(found)
    name = f"CPU a frame, {many} cameras over {few}"
    return Figure(name, _all_cpu_ms(found[many]) / _all_cpu_ms(found[few]), better="less")


def _camera_tables(found: Mapping[int, Sequence[Watched]], seconds: float) -> tuple[Table, Table]:
    costs: list[tuple[Cell, ...]] = [
        (
            f"{cameras}",
            *(median([each.cpu_ms[part] for each in watched]) for part in PARTS),
            _all_cpu_ms(watched),
            median([each.busy * 100 for each in watched]),
        )
        for cameras, watched in found.items()
    ]
    others: list[tuple[Cell, ...]] = [
        (
            f"{cameras}",
            median([len(each.stored_ms) / seconds for each in watched]),
            sum(each.dropped for each in watched),
            *(median([quantile(each.stored_ms, share) for each in watched]) for share in (0.5, 0.99)),
            *(median([each.resident_mb[part] for each in watched]) for part in PARTS),
        )
        for cameras, watched in found.items()
    ]
    latency = ("faces a second", "frames dropped", "frame to durable, ms: p50", "p99")
    return (
        Table(
            "CPU ms a frame, by cameras", ("cameras", *PARTS, "in all", "processors busy, %"), tuple(costs)
        ),
        Table(
            "Latency and resident memory, by cameras",
            ("cameras", *latency, *(f"{part}, MB" for part in PARTS)),
            tuple(others),
        ),
    )


def _devices_plot(found: Found) -> Plot:
    lines: dict[str, tuple[Point, ...]] = {
        f"{part}, {_stores(stores)}": tuple(
            (devices, _cpu_ms(costs, part)) for (devices, with_), costs in found.items() if with_ == stores
        )
        for stores in sorted({stores for _, stores in found})
        for part in ("store", "forward")
    }
    title = "The same faces from more devices"
    return Plot("scale-devices", title, "lines", "devices", "CPU ms a face", lines)


def _cameras_plot(found: Mapping[int, Sequence[Watched]]) -> Plot:
    lines: dict[str, tuple[Point, ...]] = {
        "in all": tuple((cameras, _all_cpu_ms(watched)) for cameras, watched in found.items())
    }
    for name, parts in LINES.items():
        lines[name] = tuple(
            (cameras, median([sum(each.cpu_ms[part] for part in parts) for each in watched]))
            for cameras, watched in found.items()
        )
    return Plot("scale-cameras", "More cameras on one host", "lines", "cameras", "CPU ms a frame", lines)


def _about(options: argparse.Namespace) -> str:
    return (
        f"Cameras: the whole pipeline, brokers included, into a folder; each camera is a looped recording of "
        f"640x480, {FRAMES_A_S} frames a second with a face in each, and all start together. Devices: a real "
        f"Mosquitto, one store or two that share its faces, into a folder, and one real forward with a "
        f"broker of its own, fed with {REAL_FACES_A_S:.0f} faces of 20 kB a second. Besides it so many "
        f"simulated devices, each with a connection and receipts of its own, publish {FACES_A_S:.0f} faces a "
        f"second between them, in turn and at even distances, however many they are; every face has to be "
        f"receipted. Processor time a face is over all faces for stores and broker, and over its own for "
        f"forward. {options.rounds} rounds in which the numbers take turns, {options.seconds:.0f} s each "
        f"after a warm-up; medians. Buckets: {options.keys:,} faces of one day on a real S3 server "
        f"(versitygw, over a folder) with the index that stores have written; a gallery that has just "
        f"started, pages of it at other hours, and `faceferry faces`, beside its start with an empty bucket; "
        f"medians of {LOOKS}. Requests are lines of the server's access log."
    )


def _cpu_ms(costs: Sequence[Cost], part: str) -> float:
    return median([cost.cpu_ms[part] for cost in costs])


def _all_cpu_ms(watched: Sequence[Watched]) -> float:
    return median([each.all_cpu_ms for each in watched])


def _stores(count: int) -> str:
    return "one store" if count == 1 else f"{count} stores"


def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def main() -> int:
    """Run the benchmark; return the exit status."""
    return alone(__doc__, measure, add_options)


if __name__ == "__main__":
    raise SystemExit(main())
