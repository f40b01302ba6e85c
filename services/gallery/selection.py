"""What a page shows: read from the address, and written into addresses. Addresses are hostile input."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Self
from urllib.parse import urlencode

from services.common.errors import Refused
from services.common.storage.keys import FaceKey, id_time
from services.common.wire.topics import NAME_PATTERN, Source
from services.gallery.sieve import OPEN, Sieve

_SOURCE = re.compile(rf"({NAME_PATTERN})(?:/({NAME_PATTERN}))?", re.ASCII)
_CURSOR = re.compile(r"\d{8}T\d{6}\.\d{6}Z(-[0-9a-f]{32})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which faces, and from where on.

    Attributes:
        device: of this device alone; nothing for all.
        camera: of this camera of the device alone.
        day: taken on this day, UTC; nothing for the newest that has any.
        before: those before this id or time (see `times.compact`), or
        after: those behind it; neither for the day's newest.
        sieve: those that it takes.
    """

    device: str | None = None
    camera: str | None = None
    day: date | None = None
    before: str | None = None
    after: str | None = None
    sieve: Sieve = OPEN

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
            sieve=Sieve.read(query),
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
    def unsifted(self) -> Self:
        """The same without the sieve."""
        return replace(self, sieve=OPEN)

    @property
    def sieve_query(self) -> str:
        """What an address needs to say of the sieve alone, without a `?`."""
        return urlencode({name: value for name, value in self.sieve.parts.items() if value})

    @property
    def query(self) -> str:
        """What an address needs to say, with its `?`; empty for the newest of all."""
        parts = {
            "source": self.source,
            "day": self.day.isoformat() if self.day else "",
            "before": self.before or "",
            "after": self.after or "",
            **self.sieve.parts,
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
