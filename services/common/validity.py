"""When certificates expire: pure, with the time as an argument.

The standard library reads a date only out of a certificate that a peer has shown, and this one field is not
worth a package to the services (X.509: RFC 5280, 4.1; its encoding, DER: X.690).
"""

import base64
import re
from datetime import UTC, datetime

DAY_S = 24 * 3600
SOON_S = 30 * DAY_S
"""So long before its end a certificate is worth a word, in seconds."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_TIMES = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_CENTURY = 2000


def chain_expiry_s(pem: bytes) -> float:
    """Return when somebody's own certificates in a PEM file are of no more use, Unix time: with the first.

    Raises:
        ValueError: there is none, or what looks like one is none.
    """
    return min(_expiries_s(pem))


def authority_expiry_s(pem: bytes) -> float:
    """Return when the authorities in a PEM file are of no more use, Unix time: with the last.

    A file with those of the whole web always has some that are over.

    Raises:
        ValueError: there is none, or what looks like one is none.
    """
    return max(_expiries_s(pem))


def expiry_s(der: bytes) -> float:
    """Return when a certificate expires, Unix time.

    Raises:
        ValueError: it is no certificate.
    """
    try:
        ((_, certificate),) = _elements(der)
        (_, signed), *_ = _elements(certificate)
        fields = [content for tag, content in _elements(signed) if tag != _VERSION]
        _serial, _algorithm, _issuer, validity, *_ = fields
        _, (tag, text) = _elements(validity)
        return _time_s(tag, text.decode())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"it is no certificate: {error}") from error


class Reminders:
    """Says when an end that is near is worth a line: at first, and then once a day."""

    def __init__(self) -> None:
        self._said_s: dict[str, tuple[float, float]] = {}

    def is_due(self, which: str, expires_s: float, now_s: float) -> bool:
        """Say whether to speak of a certificate's end now; if so, it counts as said.

        Args:
            which: the certificate.
            expires_s: when it expires, Unix time.
            now_s: Unix time.
        """
        if expires_s - now_s > SOON_S:
            return False
        of_s, said_s = self._said_s.get(which, (0.0, 0.0))
        # A clock that was set back does not make us silent until it is as late again.
        if of_s == expires_s and 0 <= now_s - said_s < DAY_S:
            return False
        self._said_s[which] = (expires_s, now_s)
        return True


def _expiries_s(pem: bytes) -> list[float]:
    found = [expiry_s(base64.b64decode(text)) for text in _PEM.findall(pem)]
    if not found:
        raise ValueError("no certificate is in it")
    return found


def _time_s(tag: int, text: str) -> float:
    if tag not in _TIMES:
        raise ValueError("it has no time at which it expires")
    time = datetime.strptime(text, _TIMES[tag]).replace(tzinfo=UTC)
    # To strptime two digits go to 2068, in certificates to 2049.
    is_last_century = tag == _UTC_TIME and time.year >= _CENTURY + 50
    return (time.replace(year=time.year - 100) if is_last_century else time).timestamp()


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements that stand one behind the other, each with its tag.

    Raises:
        ValueError: the last is cut off.
    """
    elements, at = [], 0
    while at < len(data):
        length = data[at + 1] if at + 1 < len(data) else len(data)
        begin = at + 2
        if length >= 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[at + 2 : begin])
        if begin + length > len(data):
            raise ValueError("it is cut off")
        elements.append((data[at], data[begin : begin + length]))
        at = begin + length
    return elements
