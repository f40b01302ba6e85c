"""Looks at a bucket of few devices, and of more and more, with always as many faces."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bucket import Day, Seen, Worked
from benchmarks.report.findings import Cell, Figure, Table
from benchmarks.servers import find_s3_server

LOOKED_AT = ("first page", "page", "faces", "start alone")
MOST_LOOK_MS = 300.0


@dataclass(frozen=True, slots=True)
class Measured:
    """All about one bucket.

    Attributes:
        written: as the stores have left it.
        tidied: of each hour's files one.
        tidying: what that took.
        mending: what it took to list all keys, and to find that nothing is missing.
    """

    written: Seen
    tidied: Seen
    tidying: Worked
    mending: Worked


Found = Mapping[int, Measured]
"""What was measured, by devices."""


def look_at(crowds: Sequence[int], keys: int, program: str | None) -> Found:
    """Measure with so many devices, one after the other, and always as many faces.

    Args:
        crowds: how many devices.
        keys: how many faces.
        program: versitygw; looked for where it is not named.
    """
    program = program or find_s3_server()
    if program is None:
        raise SystemExit("no S3 server: name a versitygw program with --s3-server")
    found = {}
    for devices in crowds:
        print(f"a bucket of {devices:,} devices", file=sys.stderr)
        with (
            tempfile.TemporaryDirectory(prefix="faceferry-") as folder,
            Day(program, Path(folder), devices, keys).served() as day,
        ):
            written, tidying = day.seen(), day.work("--tidy")
            found[devices] = Measured(written, day.seen(), tidying, day.work("--mend", "--keys-only"))
    return found


def crowd_figures(found: Found) -> list[Figure]:
    """Return what has to hold of the largest crowd, and of it beside the one before."""
    *_, fewer, most = sorted(found)
    many, less = found[most].written, found[fewer].written
    looks = (
        ("gallery, a page", many.page, less.page, many.page.cpu_ms),
        ("faceferry faces, beside its start", many.faces, less.faces, many.faces.cpu_ms - many.start.cpu_ms),
    )
    return [
        figure
        for name, look, other, cpu_ms in looks
        for figure in (
            Figure(f"{name}: CPU, {most:,} devices", cpu_ms, "less", MOST_LOOK_MS, "ms"),
            Figure(
                f"{name}: requests, {most:,} devices over {fewer:,}",
                look.requests / other.requests,
                "less",
                1.0,
            ),
        )
    ]


def crowds_table(found: Found, keys: int) -> Table:
    """Return all looks as a table."""
    rows_: list[tuple[Cell, ...]] = [
        (f"{devices:,}, {state}", *_cells(seen), *_worked(done))
        for devices, each in found.items()
        for state, seen, done in (
            ("as written", each.written, each.tidying),
            ("tidied", each.tidied, each.mending),
        )
    ]
    columns = (
        "devices",
        *(f"{what}: {unit}" for what in LOOKED_AT for unit in ("CPU ms", "ms", "requests")),
        "index files",
        "index, MB",
        "to tidy, to mend: CPU s",
        "s",
        "MB",
    )
    return Table(f"{keys:,} faces of a day in a bucket, of more and more devices", columns, tuple(rows_))


def _cells(seen: Seen) -> tuple[float, ...]:
    looks = (seen.first_page, seen.page, seen.faces, seen.start)
    return (
        *(figure for look in looks for figure in (look.cpu_ms, look.wall_ms, look.requests)),
        seen.index_files,
        seen.index_bytes / 1e6,
    )


def _worked(done: Worked) -> tuple[float, ...]:
    return done.cpu_s, done.wall_s, done.peak_mb
