"""The certificates of a link: read again when they change, and watched so that none expires unsaid."""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from services.common.broker import Broker
from services.common.errors import SetupError
from services.common.metrics import CERTIFICATE_EXPIRY
from services.common.news import News
from services.common.times import from_unix_s, rfc3339
from services.common.validity import DAY_S, Reminders, authority_expiry_s, chain_expiry_s, expiry_s

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
        self._unusable, self._unreadable = News(), News()

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
                self._unusable.over()
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
            self._unreadable.over()
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

    def _tell(self, news: News, problem: str) -> None:
        if news.is_news(problem, time.monotonic()):
            log.warning(
                "mqtt.certificates_unusable", link=self._link, broker=self._broker.address, error=problem
            )

    def _fingerprint(self) -> bytes | None:
        """Return what differs when a file does; nothing while one cannot be read."""
        paths = (self._broker.ca_file, self._broker.cert_file, self._broker.key_file)
        try:
            each = [hashlib.sha256(path.read_bytes()).digest() for path in paths if path is not None]
        except OSError:
            return None
        return b"".join(each)
