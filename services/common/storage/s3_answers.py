"""What a server's answer to a write means. Pure."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from services.common.storage import s3_errors
from services.common.storage.objects import StoredObject

MOST_QUIET_S = 300.0
"""Longest time in seconds to wait because a server asked for it."""

_UNKNOWN_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_TITLE = re.compile(r"<title[^>]*>([^<]{1,100})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A server's HTTP answer.

    Attributes:
        status: the status code.
        headers: by name in lower case.
        start: the beginning of the body, as text.
    """

    status: int
    headers: Mapping[str, str]
    start: str = ""


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """Why a write failed; the arguments of `StoreUnavailable`.

    Attributes:
        reason: a metric label.
        detail: for a log line; no secrets.
        retry_after_s: seconds for which the server asked clients to wait, or None.
    """

    reason: str
    detail: str
    retry_after_s: float | None = None


def is_digest(e_tag: str | None, body: bytes) -> bool:
    """Say whether an ETag is the body's MD5, which only a server that has the whole body can give."""
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return bool(e_tag) and _bare(e_tag or "") == digest


def is_same_tag(one: str | None, other: str | None) -> bool:
    """Say whether two ETags are equal, apart from quotes and case."""
    return bool(one) and bool(other) and _bare(one or "") == _bare(other or "")


def lost_attributes(sent: StoredObject, found: StoredObject) -> set[str] | None:
    """Return the names of metadata that a server did not keep, or None where a value is different.

    Some servers keep no metadata or no content type; their objects are whole all the same. A different value
    means another object, or an answer that is not from a bucket.
    """
    lost = {name for name in sent.metadata if name not in found.metadata}
    if any(found.metadata.get(name, value) != value for name, value in sent.metadata.items()):
        return None
    found_type = found.content_type.partition(";")[0].strip().lower()
    if found_type in _UNKNOWN_TYPES:
        return lost | {"content-type"}
    return lost if found_type == sent.content_type else None


def failure_in(answer: HttpAnswer) -> WriteFailure:
    """Return why an answer is not a success; for statuses from 300 on."""
    if answer.status in (429, 503):
        quiet_s = retry_after_s(answer.headers)
        asked = "it names no time" if quiet_s is None else f"it asks to be left alone for {quiet_s:g} s"
        return WriteFailure("throttled", asked, quiet_s)
    if 300 <= answer.status < 400:
        return _redirected(answer)
    return WriteFailure("bad_answer", _told(answer))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `retry-after`, or None without one; RFC 9110, 10.2.3.

    A date is compared with the answer's own date, because our clock may be wrong.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_QUIET_S)
    then, now = _date(text), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    return min(max((then - now).total_seconds(), 0.0), MOST_QUIET_S)


def _redirected(answer: HttpAnswer) -> WriteFailure:
    region = answer.headers.get("x-amz-bucket-region") or s3_errors.region_in(answer.start)
    if region or "<Error>" in answer.start:
        where = f": the bucket is in region {region}" if region else ""
        return WriteFailure("wrong_region", _told(answer) + where)
    to = answer.headers.get("location", "").partition("?")[0][:200]
    return WriteFailure("bad_answer", f"{_told(answer)}: no bucket's redirect, to {to or 'nowhere'}")


def _told(answer: HttpAnswer) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0][:60]
    title = _TITLE.search(answer.start)
    words = s3_errors.words(answer.start)
    parts = [f"{answer.status}", *words, "" if words else kind, " ".join(title[1].split()) if title else ""]
    return ": ".join(part for part in parts if part)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _bare(e_tag: str) -> str:
    return e_tag.strip().removeprefix("W/").strip('"').lower()
