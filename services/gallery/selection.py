"""Which faces a page shows and how good they must be, as the query of an address says it. Pure.

Addresses are hostile input.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Self
from urllib.parse import urlencode

from services.common.errors import Refused
from services.common.storage.keys import FaceKey, id_time
from services.common.storage.visit_lookup import Known
from services.common.wire.topics import NAME_PATTERN, Source

_PX = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_QUALITY = re.compile(r"0\.\d{1,3}|1", re.ASCII)


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """Passes faces of a least size and quality.

    Attributes:
        least_px: least shorter side of a face in its frame, in pixels; 0: any.
        least_quality: least quality of a picture, 0..1; 0: any, those without one included.
    """

    least_px: int = 0
    least_quality: float = 0.0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Read an address's query.

        Raises:
            Refused: `bad_address`, where it was not written by `parts`.
        """
        px, quality = query.get("px", ""), query.get("quality", "")
        if px and not _PX.fullmatch(px):
            raise Refused("bad_address", "px")
        if quality and not _QUALITY.fullmatch(quality):
            raise Refused("bad_address", "quality")
        return cls(int(px or 0), float(quality or 0))

    @property
    def parts(self) -> dict[str, str]:
        """Its parameters in an address; `""` where a bound is 0."""
        return {
            "px": str(self.least_px) if self.least_px else "",
            "quality": f"{self.least_quality:g}" if self.least_quality else "",
        }

    @property
    def is_open(self) -> bool:
        """Whether all faces pass."""
        return not self.least_px and not self.least_quality

    def takes(self, known: Known) -> bool:
        """Say whether a face passes; one whose size or quality is unknown does not pass a bound on it."""
        quality = known.part.quality if known.part else None
        is_large = not self.least_px or (known.side_px or 0) >= self.least_px
        return is_large and (not self.least_quality or (quality or 0.0) >= self.least_quality)


SIZES = ("40", "80", "120", "200")
QUALITIES = ("0.2", "0.4", "0.6", "0.8")
"""Bounds that pages offer; an address may name others."""

NO_FILTER = FaceFilter()
"""Passes all faces."""


_SOURCE = re.compile(rf"({NAME_PATTERN})(?:/({NAME_PATTERN}))?", re.ASCII)
_CURSOR = re.compile(r"\d{8}T\d{6}\.\d{6}Z(-[0-9a-f]{32})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PageSelection:
    """Which faces a page shows.

    Attributes:
        device: only of this device; None: of all.
        camera: only of this camera of the device; None: of all.
        day: taken on this day, UTC; None: on the newest day that has any.
        before: only those before this id or time (see `times.compact`), newest first.
        after: only those after it, the nearest first; with neither the day's newest.
        face_filter: only those that pass.
    """

    device: str | None = None
    camera: str | None = None
    day: date | None = None
    before: str | None = None
    after: str | None = None
    face_filter: FaceFilter = NO_FILTER

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Read an address's query.

        Raises:
            Refused: `bad_address`, where it was not written by `query`.
        """
        source = _SOURCE.fullmatch(query["source"]) if query.get("source") else None
        if query.get("source") and source is None:
            raise Refused("bad_address", "source")
        return cls(
            device=source[1] if source else None,
            camera=source[2] if source else None,
            day=_day(query["day"]) if query.get("day") else None,
            before=_cursor(query.get("before")),
            after=_cursor(query.get("after")),
            face_filter=FaceFilter.read(query),
        )

    @property
    def source(self) -> str:
        """`device`, or `device/camera`, as an address says it; `""` for all."""
        return "/".join(name for name in (self.device, self.camera) if name)

    @property
    def is_newest(self) -> bool:
        """Whether new faces belong to the top of the page."""
        return self.day is None and self.before is None and self.after is None

    def takes(self, source: Source) -> bool:
        """Say whether a camera is among those selected."""
        return self.device in (None, source.device) and self.camera in (None, source.camera)

    def of(self, source: Source) -> Self:
        """Return the selection narrowed to one camera."""
        return replace(self, device=source.device, camera=source.camera)

    def at(self, day: date | None, *, before: str | None = None, after: str | None = None) -> Self:
        """Return the selection at another day or place on it."""
        return replace(self, day=day, before=before, after=after)

    @property
    def unfiltered(self) -> Self:
        """The selection without its filter."""
        return replace(self, face_filter=NO_FILTER)

    @property
    def filter_query(self) -> str:
        """The query for the filter alone, without `?`."""
        return urlencode({name: value for name, value in self.face_filter.parts.items() if value})

    @property
    def query(self) -> str:
        """The query with its `?`; `""` for the newest of all."""
        parts = {
            "source": self.source,
            "day": self.day.isoformat() if self.day else "",
            "before": self.before or "",
            "after": self.after or "",
            **self.face_filter.parts,
        }
        text = urlencode({name: value for name, value in parts.items() if value}, safe="/:")
        return f"?{text}" if text else ""


def day_of(key: FaceKey) -> date:
    """Return the day of a face, UTC."""
    return key.time.date()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad_address", "day") from error


def _cursor(text: str | None) -> str | None:
    if not text:
        return None
    if not _CURSOR.fullmatch(text):
        raise Refused("bad_address", "cursor")
    try:
        id_time(text)
    except Refused as error:
        raise Refused("bad_address", "cursor") from error
    return text
