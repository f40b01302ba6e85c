"""What was found, with when and on what: docs/benchmarks/results.json."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report.findings import Part


@dataclass(frozen=True, slots=True)
class Record:
    """One part's findings.

    Attributes:
        part: what was found.
        date: the day on which it was, YYYY-MM-DD.
        machine: processor, memory and versions, by what they are of.
    """

    part: Part
    date: str
    machine: dict[str, str]


def load(path: Path) -> dict[str, Record]:
    """Return the records in a file by the names of their parts; none if there is no file.

    Raises:
        ValueError: the file is no such thing.
    """
    if not path.exists():
        return {}
    try:
        raw = json.loads(path.read_text())["records"]
        records = [Record(Part.from_dict(one["part"]), one["date"], one["machine"]) for one in raw]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has no benchmarks' results: {error}") from error
    return {record.part.name: record for record in records}


def save(path: Path, records: Iterable[Record]) -> None:
    """Write records into a file."""
    raw = [
        {"part": record.part.as_dict(), "date": record.date, "machine": record.machine} for record in records
    ]
    path.write_text(json.dumps({"records": raw}, indent=1) + "\n")
