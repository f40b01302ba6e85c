"""What a soak came to: a figure for each number of each service."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.rigs.report.findings import Figure, Part, Table
from tests.rigs.soak.flatness import MOST_RISE, WINDOWS, Course, Sample, course
from tests.rigs.soak.soaking import SERVICES, Plan, Soaked, soak

NUMBERS: dict[str, Callable[[Sample], float]] = {
    "memory": lambda sample: sample.resident_bytes / 1e6,
    "own memory": lambda sample: sample.own_bytes / 1e6,
    "descriptors": lambda sample: float(sample.descriptors),
    "threads": lambda sample: float(sample.threads),
}
IN_MB = ("memory", "own memory")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this part's options."""
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, the warm-up included")
    parser.add_argument("--warm-minutes", type=float, default=10.0, help="what is passed over")
    parser.add_argument("--sample-every-s", type=float, default=5.0)
    parser.add_argument("--restart-every-s", type=float, default=300.0, help="of each broker")
    parser.add_argument("--camera-dies-after-s", type=float, default=20.0)


def measure(options: argparse.Namespace) -> Part:
    """Run everything, and say what grew."""
    plan = Plan(
        options.minutes * 60, options.sample_every_s, options.restart_every_s, options.camera_dies_after_s
    )
    with tempfile.TemporaryDirectory(prefix="faceferry-") as folder:
        soaked = asyncio.run(soak(Path(folder), plan, lambda text: sys.stderr.write(f"{text}\n")))
    return findings(soaked, options)


def findings(soaked: Soaked, options: argparse.Namespace) -> Part:
    """Return what a run came to."""
    courses = {
        (service, number): _course(soaked.samples[service], read, soaked, options)
        for service in SERVICES
        for number, read in NUMBERS.items()
    }
    tables = [_table(number, {name: courses[name, number] for name in SERVICES}) for number in NUMBERS]
    happened = Table("What happened meanwhile", ("what", "how often"), tuple(sorted(soaked.happened.items())))
    figures = (*(_figure(*names, each) for names, each in courses.items()), _faces_figure(soaked))
    return Part("soak", "Does anything grow?", figures=figures, tables=(*tables, happened))


def _course(
    samples: Sequence[Sample], read: Callable[[Sample], float], soaked: Soaked, options: argparse.Namespace
) -> Course:
    numbers = [(sample.at_s, read(sample)) for sample in samples]
    return course(numbers, options.warm_minutes * 60, soaked.seconds)


def _figure(service: str, number: str, measured: Course) -> Figure:
    if number in IN_MB:
        name = f"{service}: {number}, highest window over the first"
        return Figure(name, measured.rise, "less", MOST_RISE)
    return Figure(f"{service}: {number}, highest window", measured.highest, "less", measured.most)


def _faces_figure(soaked: Soaked) -> Figure:
    """Return how many faces came in the last sixth: a pipeline that stands still is flat, too."""
    late = [faces for at_s, faces in soaked.faces if at_s >= soaked.seconds * (1 - 1 / WINDOWS)]
    return Figure("faces stored in the last sixth", late[-1] - late[0], "more", 1)


def _table(number: str, courses: dict[str, Course]) -> Table:
    unit = ", MB" if number in IN_MB else ""
    return Table(
        f"{number.capitalize()}{unit}: the median of each window",
        ("service", *(f"{place + 1}" for place in range(WINDOWS))),
        tuple((name, *each.medians) for name, each in courses.items()),
    )
