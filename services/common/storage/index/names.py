"""Where the index lies: `index/dt=YYYY-MM-DD/hour=HH/{first}_{last}_{rows}_{digest}.parquet`, times in UTC.

A name tells what is in the file, so that little need be read; and it names the content, so that two who write
the same write one file, and what is written is never changed.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self

from services.common.storage.index.rows import Row

ROOT = "index"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)_(\d{8}T\d{6}\.\d{6}Z)_(\d{1,9})_[0-9a-f]{16}\.parquet", re.ASCII)
_HOUR = re.compile(r"hour=([01]\d|2[0-3])", re.ASCII)
_TIME_LENGTH = 23


class Hour(NamedTuple):
    """An hour of a day, UTC: 0 to 23."""

    day: date
    hour: int

    @classmethod
    def of(cls, face_id: str) -> Self:
        """Return the hour that a face's id names."""
        return cls(date(int(face_id[:4]), int(face_id[4:6]), int(face_id[6:8])), int(face_id[9:11]))

    @property
    def folder(self) -> str:
        """Where its files lie."""
        return f"{day_folder(self.day)}/hour={self.hour:02}"


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file, as far as its name tells.

    Attributes:
        key: its name under the store's URL.
        size_bytes: its size.
        first: the time of its first face, as ids begin (see `times.compact`).
        last: that of its last face.
        count: its faces.
    """

    key: str
    size_bytes: int
    first: str
    last: str
    count: int


def day_folder(day: date) -> str:
    """Return where the files of a day lie."""
    return f"{ROOT}/dt={day.isoformat()}"


def day_in(path: str) -> date | None:
    """Return the day of a folder of the index; nothing where it is none."""
    try:
        day = date.fromisoformat(path.rpartition("/dt=")[2])
    except ValueError:
        return None
    return day if path == day_folder(day) else None


def hour_in(day: date, path: str) -> Hour | None:
    """Return the hour of a folder of a day; nothing where it is none."""
    found = _HOUR.fullmatch(path.rpartition("/")[2])
    return Hour(day, int(found[1])) if found else None


def key_for(rows: Sequence[Row], body: bytes) -> str:
    """Return where rows of one hour, in order, belong as the file `body`."""
    hour = Hour.of(rows[0].id)
    first, last = (row.id[:_TIME_LENGTH] for row in (rows[0], rows[-1]))
    digest = hashlib.sha256(body).hexdigest()[:16]
    return f"{hour.folder}/{first}_{last}_{len(rows)}_{digest}.parquet"


def parse(key: str, size_bytes: int) -> IndexFile | None:
    """Return what a key tells of a file; nothing where it is none of ours."""
    found = _NAME.fullmatch(key.rpartition("/")[2])
    return IndexFile(key, size_bytes, found[1], found[2], int(found[3])) if found else None


def by_hour(rows: Iterable[Row]) -> dict[Hour, list[Row]]:
    """Return rows by the hours that their ids name."""
    hours: dict[Hour, list[Row]] = {}
    for row in rows:
        hours.setdefault(Hour.of(row.id), []).append(row)
    return hours
