"""The certificates of a link: read again when their files change, and watched for their expiry.

The standard library reads dates only from a certificate that a peer has shown, so the one field is read here
rather than with a package for it (X.509: RFC 5280, 4.1; its encoding, DER: X.690).
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
"""Warnings begin this long before a certificate expires, seconds."""

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_TIMES = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}
_CENTURY = 2000


def chain_expiry_s(pem: bytes) -> float:
    """Return when a certificate chain in a PEM file expires: with its first certificate. Unix time, seconds.

    Raises:
        ValueError: it holds no certificate, or a broken one.
    """
    return min(_expiries_s(pem))


def authority_expiry_s(pem: bytes) -> float:
    """Return when the last of the authorities in a PEM file expires, Unix time, seconds.

    A bundle of all public authorities always holds some that have expired.

    Raises:
        ValueError: it holds no certificate, or a broken one.
    """
    return max(_expiries_s(pem))


def expiry_s(der: bytes) -> float:
    """Return when a certificate expires, Unix time, seconds.

    Args:
        der: the certificate, DER.

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
    """Says when to warn of a certificate that expires soon: once, and then once a day."""

    def __init__(self) -> None:
        self._said_s: dict[str, tuple[float, float]] = {}

    def is_due(self, which: str, expires_s: float, now_s: float) -> bool:
        """Return whether to warn of a certificate now; if so, it counts as done.

        Args:
            which: names the certificate.
            expires_s: when it expires, Unix time.
            now_s: Unix time.
        """
        if expires_s - now_s > SOON_S:
            return False
        of_s, said_s = self._said_s.get(which, (0.0, 0.0))
        # A clock that was set back must not suppress warnings until it has caught up.
        if of_s == expires_s and 0 <= now_s - said_s < DAY_S:
            return False
        self._said_s[which] = (expires_s, now_s)
        return True


def _expiries_s(pem: bytes) -> list[float]:
    found = [expiry_s(base64.b64decode(text)) for text in _PEM.findall(pem)]
    if not found:
        raise ValueError("it holds no certificate")
    return found


def _time_s(tag: int, text: str) -> float:
    if tag not in _TIMES:
        raise ValueError("it has no time at which it expires")
    time = datetime.strptime(text, _TIMES[tag]).replace(tzinfo=UTC)
    # Two digits of a year mean up to 2068 to strptime, up to 2049 in certificates.
    is_last_century = tag == _UTC_TIME and time.year >= _CENTURY + 50
    return (time.replace(year=time.year - 100) if is_last_century else time).timestamp()


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the DER elements in `data`, in order, each as its tag and its content.

    Raises:
        ValueError: the last one is cut off.
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
    """The TLS context and certificates of the connections to one broker.

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
        """Return the TLS context for a new connection, from the files as they are now, or None without TLS.

        While they cannot be used, for instance when only one file of a new pair has been written, the context
        from before is returned.
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
        """Note when the certificate expires that the broker has shown, DER; None: it has shown none."""
        if certificate is not None:
            try:
                self._note("broker", expiry_s(certificate))
            except ValueError as error:
                self._tell(self._unusable, f"the broker's certificate: {error}")

    async def watch(self) -> None:
        """Log certificates that expire soon, until cancelled."""
        while True:
            self.look(time.time())
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self, now_s: float) -> None:
        """Read when our files' certificates expire, and log what expires soon.

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
        """Note when a file's certificate expires; return what is wrong with the file, or None."""
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

    def _tell(self, log_filter: RepeatFilter, problem: str) -> None:
        if log_filter.is_new(problem, time.monotonic()):
            log.warning(
                "mqtt.certificates_unusable", link=self._link, broker=self._broker.address, error=problem
            )

    def _fingerprint(self) -> bytes | None:
        """Return a digest of the files' contents, or None while one cannot be read."""
        paths = (self._broker.ca_file, self._broker.cert_file, self._broker.key_file)
        try:
            each = [hashlib.sha256(path.read_bytes()).digest() for path in paths if path is not None]
        except OSError:
            return None
        return b"".join(each)
