"""Rows and files of the index: `index/dt=YYYY-MM-DD/hour=HH/{first}_{last}_{rows}_{digest}.parquet`, UTC.

A name says which faces are in the file, so that few files are read; and it has a digest of the content, so
that two writers of the same rows write one file, and no file is ever changed.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple, Self

from services.common.parquet import tables
from services.common.parquet.columns import Column, Type
from services.common.parquet.thrift import BadParquet
from services.common.storage.keys import FaceKey, parse_key
from services.common.storage.visits import Part, part_in
from services.common.wire import times
from services.common.wire.faces import SUFFIXES
from services.common.wire.topics import Source

GROUP_ROWS = 8_192
"""Rows in one row group: the least that is read of a large file, some 400 kB."""
MAKER = "faceferry index 1"
_SCORE = re.compile(r"\d{1,3}(\.\d{1,9})?", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)

ID = Column("id", Type.TEXT)
COLUMNS = (
    ID,
    Column("time", Type.TIME),
    Column("device", Type.TEXT),
    Column("camera", Type.TEXT),
    Column("content_type", Type.TEXT),
    Column("bytes", Type.INT32),
    Column("known", Type.BOOLEAN),
    Column("visit", Type.TEXT, is_optional=True),
    Column("shot", Type.INT32, is_optional=True),
    Column("quality", Type.DOUBLE, is_optional=True),
    Column("score", Type.DOUBLE, is_optional=True),
)


class IndexRow(NamedTuple):
    """A stored face.

    Attributes:
        id: the face's id.
        time: when the frame was taken, microseconds since 1970, UTC; the id's time, for queries.
        device: the camera's device.
        camera: the camera.
        content_type: `image/jpeg` or `image/png`.
        bytes: size of the image.
        known: whether the following were read from the object; else they are None.
        visit: see `Part`.
        shot: see `Part`.
        quality: see `Part`.
        score: the detector's confidence, 0..1.
    """

    id: str
    time: int
    device: str
    camera: str
    content_type: str
    bytes: int
    known: bool = False
    visit: str | None = None
    shot: int | None = None
    quality: float | None = None
    score: float | None = None

    @classmethod
    def of(cls, key: FaceKey, size_bytes: int, metadata: Mapping[str, str] | None = None) -> Self:
        """Return the row of a face.

        Args:
            key: the face's.
            size_bytes: of the image.
            metadata: the object's; None where it was not read.
        """
        time = (key.time - times.EPOCH) // _MICROSECOND
        row = cls(key.id, time, *key.source, key.content_type, size_bytes)
        return row if metadata is None else row.with_metadata(metadata)

    def with_metadata(self, metadata: Mapping[str, str]) -> Self:
        """Return the row with values from the object's metadata."""
        visit, shot, quality = part_in(metadata) or (None, None, None)
        score = metadata.get("score", "")
        return self._replace(
            known=True,
            visit=visit,
            shot=shot,
            quality=quality,
            score=float(score) if _SCORE.fullmatch(score) else None,
        )

    @property
    def key(self) -> FaceKey:
        """The face's key."""
        return FaceKey(Source(self.device, self.camera), self.id, self.content_type)

    @property
    def part(self) -> Part | None:
        """The face's part in a visit; None where it has none or that is not known."""
        return Part(self.visit, self.shot, self.quality) if self.visit is not None else None


def encode(rows: Iterable[IndexRow]) -> bytes:
    """Return rows as a file, sorted and each face once; see `sorted_unique`.

    The same rows give the same bytes.
    """
    return tables.write(COLUMNS, sorted_unique(rows), GROUP_ROWS, MAKER)


def sorted_unique(rows: Iterable[IndexRow]) -> list[IndexRow]:
    """Return rows sorted by id, each face once; of two rows of a face the one that is `known`."""
    by_id: dict[str, IndexRow] = {}
    for row in rows:
        if row.id not in by_id or row.known:
            by_id[row.id] = row
    return [by_id[face_id] for face_id in sorted(by_id)]


def decode(
    group: tables.RowGroup, data: bytes, offset: int = 0, *, at: Sequence[int] | None = None
) -> list[IndexRow]:
    """Return the rows of a group.

    Args:
        group: a row group of a file.
        data: a part of that file that contains the group.
        offset: of `data` in the file, bytes.
        at: indices of the rows to return; None: all.

    Raises:
        BadParquet: they were not written by `encode`.
    """
    columns: list[list[Any]] = [tables.read(column, group, data, offset) for column in COLUMNS]
    if at is not None:
        columns = [[column[place] for place in at] for column in columns]
    return [_checked(IndexRow(*values)) for values in zip(*columns, strict=True)]


def ids(group: tables.RowGroup, data: bytes, offset: int = 0) -> list[str]:
    """Return the ids in a group; see `decode`.

    Raises:
        BadParquet: they were not written by `encode`.
    """
    return tables.read(ID, group, data, offset)


def _checked(row: IndexRow) -> IndexRow:
    # It becomes a path and an address, so it must be a face's key.
    if row.content_type not in SUFFIXES or parse_key(str(row.key)) != row.key:
        raise BadParquet(f"a row that is no face: {row.id[:80]!r}")
    return row


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
        """The folder of its files."""
        return f"{day_folder(self.day)}/hour={self.hour:02}"


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of the index, as its name describes it.

    Attributes:
        key: its name under the store's URL.
        size_bytes: its size.
        first: the time of its first face, as at the beginning of ids (see `times.compact`).
        last: the time of its last face.
        count: its number of faces.
    """

    key: str
    size_bytes: int
    first: str
    last: str
    count: int


def day_folder(day: date) -> str:
    """Return the folder of a day's files."""
    return f"{ROOT}/dt={day.isoformat()}"


def day_in(path: str) -> date | None:
    """Return the day of a folder of the index, or None where it is not a day's."""
    try:
        day = date.fromisoformat(path.rpartition("/dt=")[2])
    except ValueError:
        return None
    return day if path == day_folder(day) else None


def hour_in(day: date, path: str) -> Hour | None:
    """Return the hour of a folder of a day, or None where it is not an hour's."""
    found = _HOUR.fullmatch(path.rpartition("/")[2])
    return Hour(day, int(found[1])) if found else None


def key_for(rows: Sequence[IndexRow], body: bytes) -> str:
    """Return the key of the file `body` with sorted rows of one hour."""
    hour = Hour.of(rows[0].id)
    first, last = (row.id[:_TIME_LENGTH] for row in (rows[0], rows[-1]))
    digest = hashlib.sha256(body).hexdigest()[:16]
    return f"{hour.folder}/{first}_{last}_{len(rows)}_{digest}.parquet"


def parse(key: str, size_bytes: int) -> IndexFile | None:
    """Return the file that a key names, or None where it is not a file of the index."""
    found = _NAME.fullmatch(key.rpartition("/")[2])
    return IndexFile(key, size_bytes, found[1], found[2], int(found[3])) if found else None


def by_hour(rows: Iterable[IndexRow]) -> dict[Hour, list[IndexRow]]:
    """Return rows by the hours that their ids name."""
    hours: dict[Hour, list[IndexRow]] = {}
    for row in rows:
        hours.setdefault(Hour.of(row.id), []).append(row)
    return hours
