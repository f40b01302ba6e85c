"""What an error of obstore means: it has few classes, and the rest is in its text.

The texts are those of the pinned minor version; `tests/contract/test_store_s3_texts.py` compares them with
real answers.
"""

import html
import re
from collections.abc import Iterable

_ANSWER = re.compile(r"status code: (\d{3})([^\n:]*): ?(.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
_ELEMENT = r"<{0}>\s*(?:<!\[CDATA\[)?([^<]*?)(?:\]\]>)?\s*</{0}>"
_CODE = re.compile(_ELEMENT.format("Code"))
_MESSAGE = re.compile(_ELEMENT.format("Message"))
_REGIONS = (
    re.compile(_ELEMENT.format("Region")),
    re.compile(r"expecting '([\w-]{1,60})'"),
    re.compile(r"expected: \d{8}/([\w-]{1,60})/s3/"),  # Garage's words
    re.compile(r"<Endpoint>[^<]*\bs3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.[^<]*</Endpoint>"),
)
_REGION_CODES = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "Redirect",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
        "InvalidRegion",
        "InvalidRegionName",
    }
)
_REGION_WORDS = re.compile(
    r"the region .*?is wrong|expecting '[\w-]+'|unexpected scope|valid region|wrong region", re.IGNORECASE
)
_REASONS = {
    "ExpiredToken": "expired_credentials",
    "ExpiredTokenException": "expired_credentials",
    "TokenRefreshRequired": "expired_credentials",
    "RequestTimeTooSkewed": "clock_skew",
    "NoSuchBucket": "no_bucket",
    "NoSuchKey": "bad_answer",  # to a write
    "SlowDown": "throttled",
    "TooManyRequests": "throttled",
    "Throttling": "throttled",
    "QuotaExceeded": "full",
    "InsufficientCapacity": "full",
    "XMinioStorageFull": "full",
    # S3 redirects with 301 and 307 only, and by no other way than for a region.
    "301": "wrong_region",
    "302": "bad_answer",
    "303": "bad_answer",
    "307": "wrong_region",
    "304": "bad_answer",
    "308": "wrong_region",
    "400": "rejected",
    "401": "forbidden",
    "403": "forbidden",
    "404": "no_bucket",
    "405": "rejected",
    "409": "conflict",
    "411": "rejected",
    "412": "bad_answer",
    "429": "throttled",
    "503": "throttled",
    "507": "full",
    "511": "bad_answer",
}
_NOT_FROM_A_BUCKET = re.compile(
    r"MissingEtag|MissingContentLength|MissingLastModified|InvalidMetadata|BadHeader|NotPartial"
    r"|InvalidListResponse|\bParse\(|Header missing|kind: Redirect"
)
_WITHOUT_ANSWER = (
    (re.compile("redirect without LOCATION"), "wrong_region"),
    (_NOT_FROM_A_BUCKET, "bad_answer"),
    (re.compile("InvalidCertificate"), "bad_certificate"),
    (re.compile("TimedOut|kind: Timeout"), "timeout"),
)
_PAGE = re.compile(r"\s*<(?:!doctype html|html)", re.IGNORECASE)
_PAGES_TELL_NOTHING = frozenset({"400", "404", "405"})
"""Statuses that do not come from a bucket where an HTML page comes with them."""
_UNKNOWN_KEYS = frozenset({"InvalidAccessKeyId", "XAdminUserNotFound"})
_STALE_KEYS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "InvalidSecurity",
    }
)
_UNKNOWN_KEY_WORDS = re.compile(r"\baccess key\b", re.IGNORECASE)
"""Part of the message of all codes that mean that a key is unknown."""
_CAUSE = re.compile(r'(?:message|error): "([^"\\]{1,200})"|InvalidCertificate\(\s*(\w{1,60})')
_NOT_HTTP = re.compile(r"(?:Parse\(\s*(\w{1,30}))|(MissingContentLength|InvalidListResponse)")
_SHORTEST_SECRET = 8
_MOST_WORDS = 4_000


def reason(error: Exception) -> str:
    """Return the reason as a metric label, such as `wrong_region`."""
    text = str(error)
    found, said = code(error), body(error)
    if found in _REASONS:
        return _REASONS[found]
    if found in _REGION_CODES or (status(error) in ("400", "403") and _REGION_WORDS.search(message(error))):
        return "wrong_region"
    if is_key_unknown(error):
        return "forbidden"
    if (answer := status(error)) is not None:
        is_page = answer in _PAGES_TELL_NOTHING and _PAGE.match(said) is not None
        return "bad_answer" if is_page else _REASONS.get(answer, "server_error")
    return next((why for pattern, why in _WITHOUT_ANSWER if pattern.search(text)), "unreachable")


def detail(error: Exception, secrets: Iterable[str] = ()) -> str:
    """Return the request, and the server's code and message or the innermost cause.

    The rest of the error is left out, because it may hold signatures.

    Args:
        error: what obstore raised.
        secrets: removed from the text, should the server repeat them.
    """
    text = str(error)
    found = _ANSWER.search(text)
    cause = None if found else (_CAUSE.search(text) or _NOT_HTTP.search(text))
    asked = text[: found.start(3)] if found else text.partition("\n")[0][:300]
    region = expected_region(error)
    parts = [
        asked.strip().rstrip(":"),
        code(error),
        message(error),
        f"the bucket is in region {region}" if region else "",
        next(filter(None, cause.groups()), "") if cause else "",
    ]
    return hide(": ".join(part for part in parts if part), secrets)


def hide(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets in it."""
    for secret in secrets:
        # A shorter one is not a secret, and occurs in ordinary words.
        text = text.replace(secret, "***") if len(secret) >= _SHORTEST_SECRET else text
    return text


def status(error: Exception) -> str | None:
    """Return the HTTP status of the server's answer, or None without an answer."""
    found = _ANSWER.search(str(error))
    return found[1] if found else None


def body(error: Exception) -> str:
    """Return the body of the server's answer, `""` where there is none."""
    found = _ANSWER.search(str(error))
    return found[3] if found else ""


def code(error: Exception) -> str:
    """Return the server's own `<Code>`, `""` where there is none."""
    return _words(_CODE, body(error))


def message(error: Exception) -> str:
    """Return the server's own `<Message>`, `""` where there is none."""
    return _words(_MESSAGE, body(error))


def words(text: str) -> list[str]:
    """Return the code and the message in an error's XML, as far as they are there."""
    return [found for pattern in (_CODE, _MESSAGE) if (found := _words(pattern, text))]


def expected_region(error: Exception) -> str | None:
    """Return the region that the server names as the bucket's, or None."""
    return region_in(body(error)) if reason(error) == "wrong_region" else None


def region_in(text: str) -> str | None:
    """Return the region that an answer's body names."""
    plain = html.unescape(text)
    return next((found[1] for pattern in _REGIONS if (found := pattern.search(plain)) and found[1]), None)


def may_newer_keys_help(error: Exception, *, is_write: bool) -> bool:
    """Say whether the server may have refused the keys, so that newer ones may help.

    For reads a plain 403 does not count: keys that may write need not be allowed to read.
    """
    if code(error) in _STALE_KEYS or is_key_unknown(error):
        return True
    return is_write and status(error) in ("401", "403")


def is_key_unknown(error: Exception) -> bool:
    """Say whether the server has no such access key; servers differ in code and status."""
    return code(error) in _UNKNOWN_KEYS or _UNKNOWN_KEY_WORDS.search(message(error)) is not None


def may_another_way_help(error: Exception) -> bool:
    """Say whether a request may have been refused for a header of it that the server does not know.

    Statuses differ: 501 is Amazon's and Backblaze's, 400 and 405 are gateways', 403 comes where a proxy drops
    a signed header, 500 from servers that do not expect it.
    """
    return reason(error) in ("rejected", "forbidden", "server_error") and not is_key_unknown(error)


def is_no_object(error: Exception) -> bool:
    """Say whether a 404 means that the object is missing, not the bucket or a page of another server."""
    found = code(error)
    return (
        found != "NoSuchBucket"
        and not is_key_unknown(error)
        and (bool(found) or reason(error) != "bad_answer")
    )


def is_existing(error: Exception) -> bool:
    """Say whether the server refused a write because the object exists.

    obstore says "already exists" on 409, too, when another write of the key is under way and may fail. Some
    servers answer 304 in place of 412.
    """
    return status(error) in ("304", "412")


def is_without_e_tag(error: Exception) -> bool:
    """Say whether a successful answer had no ETag: it may have stored, or it is not a bucket."""
    return "MissingEtag" in str(error)


def is_hiding_headers(error: Exception) -> bool:
    """Say whether the cause is in the answer's headers, which obstore does not report."""
    answer = status(error) or ""
    return answer in ("429", "503") or answer.startswith("3") or "redirect without LOCATION" in str(error)


def is_cut(error: Exception) -> bool:
    """Say whether the connection ended within the answer."""
    return "IncompleteMessage" in str(error)


def _words(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return " ".join(html.unescape(found[1]).split())[:_MOST_WORDS] if found else ""
