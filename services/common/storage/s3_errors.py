"""What an error of obstore's means: it has few classes, and says the rest in its text."""

import re

from obstore.exceptions import UnauthenticatedError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_REASONS = {
    "ExpiredToken": "expired_credentials",
    "TokenRefreshRequired": "expired_credentials",
    "RequestTimeTooSkewed": "clock_skew",
    "NoSuchBucket": "no_bucket",
    "SlowDown": "throttled",
    "400": "rejected",
    "401": "forbidden",
    "403": "forbidden",
    "404": "no_bucket",
    "409": "conflict",
    "429": "throttled",
    "503": "throttled",
}
_CAUSE = re.compile(r'(?:message|error): "([^"\\]{1,200})"|InvalidCertificate\(\s*(\w{1,60})')


def reason(error: Exception) -> str:
    """Return what was wrong in a word or two, as a metric label."""
    text = str(error)
    code = _CODE.search(text)
    if code is not None and code[1] in _REASONS:
        return _REASONS[code[1]]
    if (answer := status(error)) is not None:
        return _REASONS.get(answer, "server_error")
    if isinstance(error, UnauthenticatedError):
        return "no_credentials"  # no request was made: see `s3`'s credentials
    if "redirect without LOCATION" in text:
        return "wrong_region"
    if "InvalidCertificate" in text:
        return "bad_certificate"
    return "timeout" if "TimedOut" in text or "kind: Timeout" in text else "unreachable"


def detail(error: Exception) -> str:
    """Return the first line and the innermost cause: what else there is may hold signatures."""
    text = str(error)
    code, cause = _CODE.search(text), _CAUSE.search(text)
    parts = [text.partition("\n")[0][:300], code[1] if code else "", (cause[1] or cause[2]) if cause else ""]
    return ": ".join(part for part in parts if part)


def status(error: Exception) -> str | None:
    """Return the HTTP status of the server's answer, if it gave one."""
    found = _STATUS.search(str(error))
    return found[1] if found else None
