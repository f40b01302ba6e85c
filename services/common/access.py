"""Who may look: a token, or the session that it was exchanged for. No clock is read here."""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

SESSION_S: Final = 30 * 24 * 3600
"""For so long is a session good, in seconds: a month."""
MIN_TOKEN_LENGTH: Final = 16
"""A shorter token could be guessed."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Guard:
    """Knows the token, and compares in constant time.

    Attributes:
        token: what one has to know.
    """

    token: str = field(repr=False)

    def knows(self, token: str) -> bool:
        """Say whether this is the token."""
        return hmac.compare_digest(_digest(token), _digest(self.token))

    def bears(self, authorization: str) -> bool:
        """Say whether an `Authorization` header bears the token (RFC 6750)."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.knows(token.strip())

    def accepts(self, authorization: str) -> bool:
        """Say whether an `Authorization` header has the token: as a bearer, or as a password (RFC 7617).

        Browsers and players know how to ask for a password; whose it is does not matter.
        """
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return self.bears(authorization)
        try:
            _user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:
            return False
        return self.knows(password)

    def session(self, now_s: float) -> str:
        """Return what a browser keeps instead of the token, good for `SESSION_S` from `now_s` (Unix time)."""
        ends = str(int(now_s) + SESSION_S)
        return f"{ends}.{self._signature(ends)}"

    def admits(self, session: str, now_s: float) -> bool:
        """Say whether a session is ours and not over."""
        ends, _, signature = session.partition(".")
        is_ours = hmac.compare_digest(_digest(signature), _digest(self._signature(ends)))
        return is_ours and now_s < int(ends)

    def _signature(self, ends: str) -> str:
        return hmac.digest(self.token.encode(), _digest(f"session {ends}"), "sha256").hex()


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_name(host_header: str) -> bool:
    """Say whether a `Host` header names this machine's loopback.

    Without a token it must: a page of anybody's could have its own name point to 127.0.0.1 and read what is
    served there (DNS rebinding).
    """
    try:
        return urlsplit(f"//{host_header}").hostname in _LOOPBACK_NAMES
    except ValueError:
        return False


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
