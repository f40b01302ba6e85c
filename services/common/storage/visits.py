"""Groups stored faces by the visit in their metadata, which comes from devices and is not trusted."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

from services.common.errors import Refused
from services.common.storage.keys import FaceKey, id_time
from services.common.wire.topics import Source

_VISIT = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{16}", re.ASCII)
_SHOT = re.compile(r"[1-9]\d{0,5}", re.ASCII)
_QUALITY = re.compile(r"0(\.\d{1,6})?|1(\.0{1,6})?", re.ASCII)


class Part(NamedTuple):
    """A face's part in a visit, as its metadata say it.

    Attributes:
        visit: the visit's id.
        shot: the number of the picture, from 1 on; None where it is not given.
        quality: 0..1; None where it is not given.
    """

    visit: str
    shot: int | None = None
    quality: float | None = None

    @property
    def began(self) -> datetime:
        """When the visit began, as its id says, UTC."""
        return id_time(self.visit)


class Picture(NamedTuple):
    """A stored face, and its part in a visit; None where it has none."""

    key: FaceKey
    part: Part | None = None

    @property
    def name(self) -> tuple[Source, str]:
        """The key by which pictures are grouped: camera and visit, or the face's id without a visit."""
        return self.key.source, self.part.visit if self.part else self.key.id

    @property
    def rank(self) -> tuple[float, str]:
        """Sorts pictures by quality; of equal ones the newest is the largest."""
        quality = self.part.quality if self.part else None
        return (-1.0 if quality is None else quality, self.key.id)


@dataclass(frozen=True, slots=True)
class Group:
    """The pictures of a visit that were read, or one face that belongs to none.

    Attributes:
        pictures: newest first, all of one camera; never empty.
    """

    pictures: tuple[Picture, ...]

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> Self:
        """Return a group of pictures that come newest first."""
        return cls(tuple(pictures))

    @property
    def source(self) -> Source:
        """The camera."""
        return self.pictures[0].key.source

    @property
    def part(self) -> Part | None:
        """The best picture's part in the visit, or None without a visit."""
        return self.best.part

    @property
    def visit(self) -> str | None:
        """The visit's id, or None for a face of no visit."""
        return self.part.visit if self.part else None

    @property
    def quality(self) -> float | None:
        """The quality of the best picture, 0..1, or None."""
        return self.part.quality if self.part else None

    @property
    def best(self) -> Picture:
        """The picture of the highest quality."""
        return max(self.pictures, key=lambda picture: picture.rank)

    @property
    def began(self) -> datetime:
        """When the visit began, UTC; at its first picture, where the id names a later time."""
        first = self.pictures[-1].key.time
        return min(first, self.part.began) if self.part else first

    @property
    def last(self) -> datetime:
        """When the newest picture was taken, UTC."""
        return self.pictures[0].key.time

    @property
    def has_others(self) -> bool:
        """Whether the visit has further pictures, in this group or not."""
        return len(self.pictures) > 1 or (self.part is not None and (self.part.shot or 1) > 1)


def is_visit(text: str) -> bool:
    """Say whether `text` has the shape of a visit's id: a time, and 16 hex digits."""
    try:
        return _VISIT.fullmatch(text) is not None and id_time(text) is not None
    except Refused:
        return False


def part_in(metadata: Mapping[str, str]) -> Part | None:
    """Return a face's part in a visit, or None where it has none or its metadata are malformed."""
    visit, shot, quality = (metadata.get(name, "") for name in ("visit", "shot", "quality"))
    if not is_visit(visit):
        return None
    return Part(
        visit,
        int(shot) if _SHOT.fullmatch(shot) else None,
        float(quality) if _QUALITY.fullmatch(quality) else None,
    )


def grouped(pictures: Iterable[Picture]) -> list[Group]:
    """Return pictures by visit, in the order of the visits' newest pictures.

    Args:
        pictures: newest first.
    """
    groups: dict[tuple[Source, str], list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.name, []).append(picture)
    return [Group.of(group) for group in groups.values()]
