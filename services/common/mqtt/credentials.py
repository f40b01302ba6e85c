"""The certificates of a link: read again when they change, and watched so that none expires unsaid.

The standard library reads a date only out of a certificate that a peer has shown, and this one field is not
worth a package to the services (X.509: RFC 5280, 4.1; its encoding, DER: X.690).
"""

import asyncio
import base64
import hashlib
import re
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from services.common.errors import SetupError
from services.common.mqtt.broker import Broker
from services.common.runtime.logging import RepeatFilter
from services.common.runtime.metrics import CERTIFICATE_EXPIRY
from services.common.wire.times import from_unix_s, rfc3339

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


LOOK_EVERY_S = 60.0

_ADVICE = {
    "own": "`faceferry pki renew` makes a new one",
    "broker": "`faceferry pki renew _server` makes a new one, if yours is the authority",
    "authority": "make a new one, and with it new certificates for all",
}

log = structlog.get_logger()


class Credentials:
    """What a link shows a broker, and what it believes of it.

    Args:
        link: the link's name, for logs and metrics.
        broker: names the files.

    Raises:
        SetupError: certificate files that cannot be used.
    """

    def __init__(self, link: str, broker: Broker) -> None:
        self._link = link
        self._broker = broker
        self._mark = self._fingerprint()
        self._context = broker.tls_context()
        self._expiries_s: dict[str, float] = {}
        self._reminders = Reminders()
        self._unusable, self._unreadable = RepeatFilter(), RepeatFilter()

    def context(self) -> ssl.SSLContext | None:
        """Return what a new connection is encrypted with, from the files as they are now.

        While they cannot be used, as between the first half of a new pair and the second, it is as before.
        """
        mark = self._fingerprint()
        if mark != self._mark:
            try:
                self._context = self._broker.tls_context()
            except SetupError as error:
                self._tell(self._unusable, str(error))
            else:
                self._mark = mark
                self._unusable.reset()
                log.info("mqtt.certificates_changed", link=self._link, broker=self._broker.address)
        return self._context

    def note_broker(self, certificate: bytes | None) -> None:
        """Take note of the certificate that the broker has shown, in DER, if it has shown one."""
        if certificate is not None:
            try:
                self._note("broker", expiry_s(certificate))
            except ValueError as error:
                self._tell(self._unusable, f"the broker's certificate: {error}")

    async def watch(self) -> None:
        """Say when an end is near, until cancelled."""
        while True:
            self.look(time.time())
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self, now_s: float) -> None:
        """Read when our files expire, and say what ends soon.

        Args:
            now_s: Unix time.
        """
        if self._context is None:
            return
        problems = [
            self._read("own", self._broker.cert_file, chain_expiry_s),
            self._read("authority", self._broker.ca_file, authority_expiry_s),
        ]
        if not any(problems):
            self._unreadable.reset()
        for which, expires_s in self._expiries_s.items():
            if self._reminders.is_due(which, expires_s, now_s):
                self._remind(which, expires_s, now_s)

    def _read(self, which: str, path: Path | None, parse: Callable[[bytes], float]) -> str | None:
        """Note when a file's certificate ends; return what is wrong with the file."""
        if path is None:
            return None
        try:
            self._note(which, parse(path.read_bytes()))
        except (OSError, ValueError) as error:
            problem = f"{path}: {error}"
            self._tell(self._unreadable, problem)
            return problem
        return None

    def _note(self, which: str, expires_s: float) -> None:
        self._expiries_s[which] = expires_s
        CERTIFICATE_EXPIRY.labels(self._link, self._broker.address, which).set(expires_s)

    def _remind(self, which: str, expires_s: float, now_s: float) -> None:
        facts = {
            "link": self._link,
            "broker": self._broker.address,
            "certificate": which,
            "expires": rfc3339(from_unix_s(expires_s)),
        }
        if expires_s <= now_s:
            log.error("mqtt.certificate_expired", **facts, advice=_ADVICE[which])
        else:
            days_left = int((expires_s - now_s) // DAY_S)
            log.warning("mqtt.certificate_expires", **facts, days_left=days_left, advice=_ADVICE[which])

    def _tell(self, news: RepeatFilter, problem: str) -> None:
        if news.is_new(problem, time.monotonic()):
            log.warning(
                "mqtt.certificates_unusable", link=self._link, broker=self._broker.address, error=problem
            )

    def _fingerprint(self) -> bytes | None:
        """Return what differs when a file does, or None while one cannot be read."""
        paths = (self._broker.ca_file, self._broker.cert_file, self._broker.key_file)
        try:
            each = [hashlib.sha256(path.read_bytes()).digest() for path in paths if path is not None]
        except OSError:
            return None
        return b"".join(each)
