"""Which stored faces are pictures of one visit. What they say of it comes from devices: data, no more."""

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
    """What a face says of the visit that it belongs to.

    Attributes:
        visit: the visit's id.
        shot: which picture of it this is, from 1 on, if it says so.
        quality: 0..1, if it says so.
    """

    visit: str
    shot: int | None = None
    quality: float | None = None

    @property
    def began(self) -> datetime:
        """When the visit began, as its id says, UTC."""
        return id_time(self.visit)


class Picture(NamedTuple):
    """A stored face, and its part in a visit; nothing where it has none."""

    key: FaceKey
    part: Part | None = None

    @property
    def name(self) -> tuple[Source, str]:
        """What it shares with its visit's other pictures, and with no other camera's whatever they say."""
        return self.key.source, self.part.visit if self.part else self.key.id

    @property
    def rank(self) -> tuple[float, str]:
        """How good it is: larger is better, and of equals the newest."""
        quality = self.part.quality if self.part else None
        return (-1.0 if quality is None else quality, self.key.id)


@dataclass(frozen=True, slots=True)
class Group:
    """The pictures of a visit, as far as they were looked at; or one face that belongs to none.

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
        """What its best picture says of the visit, or None where there is none."""
        return self.best.part

    @property
    def visit(self) -> str | None:
        """The visit's id, if it is one."""
        return self.part.visit if self.part else None

    @property
    def quality(self) -> float | None:
        """That of its best picture, 0..1, if it says so."""
        return self.part.quality if self.part else None

    @property
    def best(self) -> Picture:
        """The picture of the highest quality."""
        return max(self.pictures, key=lambda picture: picture.rank)

    @property
    def began(self) -> datetime:
        """When the visit began: an id that names a time after its first picture is not believed."""
        first = self.pictures[-1].key.time
        return min(first, self.part.began) if self.part else first

    @property
    def last(self) -> datetime:
        """When the newest of the pictures was taken."""
        return self.pictures[0].key.time

    @property
    def has_others(self) -> bool:
        """Whether there is more to see than this one picture, here or elsewhere."""
        return len(self.pictures) > 1 or (self.part is not None and (self.part.shot or 1) > 1)


def is_visit(text: str) -> bool:
    """Say whether `text` has the shape of a visit's id: a time, and 16 hex digits."""
    try:
        return _VISIT.fullmatch(text) is not None and id_time(text) is not None
    except Refused:
        return False


def part_in(metadata: Mapping[str, str]) -> Part | None:
    """Return a face's part in a visit, or None where it has none, or what it says makes no sense."""
    visit, shot, quality = (metadata.get(name, "") for name in ("visit", "shot", "quality"))
    if not is_visit(visit):
        return None
    return Part(
        visit,
        int(shot) if _SHOT.fullmatch(shot) else None,
        float(quality) if _QUALITY.fullmatch(quality) else None,
    )


def grouped(pictures: Iterable[Picture]) -> list[Group]:
    """Return pictures by visit, each where its newest picture is.

    Args:
        pictures: newest first.
    """
    groups: dict[tuple[Source, str], list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.name, []).append(picture)
    return [Group.of(group) for group in groups.values()]
