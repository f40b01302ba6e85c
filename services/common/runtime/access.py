"""Access by a token, or by a session that was given for it. Pure: time is an argument, Unix time."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

SESSION_S: Final = 30 * 24 * 3600
"""How long a session is valid: 30 days, in seconds."""
MOST_SIGNED_OUT: Final = 10_000
"""The most sessions to remember that have signed out and not expired."""
MIN_TOKEN_LENGTH: Final = 16
"""A shorter token could be guessed."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares tokens in constant time.

    Attributes:
        token: the right one.
    """

    token: str = field(repr=False)

    def knows(self, token: str) -> bool:
        """Return whether this is the token."""
        return hmac.compare_digest(_digest(token), _digest(self.token))

    def bears(self, authorization: str) -> bool:
        """Return whether an `Authorization` header has the token as a bearer token (RFC 6750)."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and self.knows(token.strip())

    def accepts(self, authorization: str) -> bool:
        """Return whether an `Authorization` header has the token, as a bearer token or a password (RFC 7617).

        Browsers and players can ask for a password; the user's name does not matter.
        """
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return self.bears(authorization)
        try:
            _user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:
            return False
        return self.knows(password)


class Sessions:
    """Sessions, which browsers keep instead of the token until they expire or sign out.

    Sessions are valid in this process only: its key is lost with it, so that a session that has signed out
    stays invalid after a restart, although nothing is stored. When the list of those that have signed out is
    full, all sessions end.

    Args:
        token: the token that they are given for.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._key = secrets.token_bytes(32)
        self._signed_out: dict[str, int] = {}

    def begin(self, now_s: float) -> str:
        """Return a new session, valid for `SESSION_S` from `now_s`."""
        words = f"{int(now_s) + SESSION_S}.{secrets.token_hex(16)}"
        return f"{words}.{self._signature(words)}"

    def admits(self, session: str, now_s: float) -> bool:
        """Return whether a session is valid: it is one of ours, has not expired and has not signed out."""
        words, _, signature = session.rpartition(".")
        is_ours = hmac.compare_digest(_digest(signature), _digest(self._signature(words)))
        return is_ours and now_s < int(words.partition(".")[0]) and words not in self._signed_out

    def end(self, session: str, now_s: float) -> None:
        """Sign a session out; copies of it become invalid too."""
        if not self.admits(session, now_s):
            return
        words = session.rpartition(".")[0]
        self._signed_out = {each: ends for each, ends in self._signed_out.items() if now_s < ends}
        if len(self._signed_out) >= MOST_SIGNED_OUT:
            self._key = secrets.token_bytes(32)
            self._signed_out.clear()
            return
        self._signed_out[words] = int(words.partition(".")[0])

    def _signature(self, words: str) -> str:
        return hmac.digest(self._key + self._token.encode(), _digest(f"session {words}"), "sha256").hex()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_name(host_header: str) -> bool:
    """Return whether a `Host` header names this machine's loopback.

    A server without a token requires it: otherwise any web page could have its own name resolve to 127.0.0.1
    and read what is served there (DNS rebinding).
    """
    try:
        return urlsplit(f"//{host_header}").hostname in _LOOPBACK_NAMES
    except ValueError:
        return False


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
