"""Which faces a page shows, and how good they must be: read from addresses, and written there. Pure.

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
    """Holds back what is small or bad.

    Attributes:
        least_px: the least shorter side of a face in its frame, in pixels; 0: any.
        least_quality: the least quality of a picture, 0..1; 0: any, and also of those that have none.
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
        """What an address says of it; `""` for what is not held back."""
        return {
            "px": str(self.least_px) if self.least_px else "",
            "quality": f"{self.least_quality:g}" if self.least_quality else "",
        }

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return not self.least_px and not self.least_quality

    def takes(self, known: Known) -> bool:
        """Say whether a face passes; one of which it is not known does not."""
        quality = known.part.quality if known.part else None
        is_large = not self.least_px or (known.side_px or 0) >= self.least_px
        return is_large and (not self.least_quality or (quality or 0.0) >= self.least_quality)


SIZES = ("40", "80", "120", "200")
QUALITIES = ("0.2", "0.4", "0.6", "0.8")
"""Those that pages offer; an address may name others."""

NO_FILTER = FaceFilter()
"""Holds nothing back."""


_SOURCE = re.compile(rf"({NAME_PATTERN})(?:/({NAME_PATTERN}))?", re.ASCII)
_CURSOR = re.compile(r"\d{8}T\d{6}\.\d{6}Z(-[0-9a-f]{32})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PageSelection:
    """Which faces, and from where on.

    Attributes:
        device: of this device alone; nothing for all.
        camera: of this camera of the device alone.
        day: taken on this day, UTC; nothing for the newest that has any.
        before: those before this id or time (see `times.compact`), or
        after: those behind it; neither for the day's newest.
        face_filter: those that it takes.
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
        """The device, or device and camera, as an address says it; `""` for all."""
        return "/".join(name for name in (self.device, self.camera) if name)

    @property
    def is_newest(self) -> bool:
        """Whether what comes in now belongs to the top of the page."""
        return self.day is None and self.before is None and self.after is None

    def takes(self, source: Source) -> bool:
        """Say whether a camera is among those selected."""
        return self.device in (None, source.device) and self.camera in (None, source.camera)

    def of(self, source: Source) -> Self:
        """Return the same of one camera."""
        return replace(self, device=source.device, camera=source.camera)

    def at(self, day: date | None, *, before: str | None = None, after: str | None = None) -> Self:
        """Return the same cameras on another day, or elsewhere on it."""
        return replace(self, day=day, before=before, after=after)

    @property
    def unfiltered(self) -> Self:
        """The same without the sieve."""
        return replace(self, face_filter=NO_FILTER)

    @property
    def filter_query(self) -> str:
        """What an address needs to say of the sieve alone, without a `?`."""
        return urlencode({name: value for name, value in self.face_filter.parts.items() if value})

    @property
    def query(self) -> str:
        """What an address needs to say, with its `?`; empty for the newest of all."""
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
    """Return the day that a face lies under."""
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
