"""UTC times in the two forms that messages use. No clock is read here."""

import re
from datetime import UTC, date, datetime, timedelta

from services.common.errors import Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def from_unix_s(seconds: float) -> datetime:
    """Return the UTC time `seconds` after the Unix epoch, rounded to the microsecond."""
    return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def midnight(day: date) -> datetime:
    """Return the beginning of a day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def rfc3339(time: datetime) -> str:
    """Return `time` (UTC) as RFC 3339 with microseconds: `2026-01-31T12:00:00.000001Z`."""
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}Z".zfill(27)


def compact(time: datetime) -> str:
    """Return `time` (UTC) in the form that face ids start with: `20260131T120000.000001Z`."""
    return rfc3339(time).replace("-", "").replace(":", "")


def parse_rfc3339(text: str) -> datetime:
    """Parse what `rfc3339` returns; other forms of a time are refused, because ids must be canonical.

    Raises:
        Refused: `bad_time`.
    """
    if not _RFC3339.fullmatch(text):
        raise Refused("bad_time", f"{text[:40]!r} is not RFC 3339 in UTC with microseconds")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused("bad_time", str(error)) from error
