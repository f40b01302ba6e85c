"""Who may look: who has the token, or a session that it was exchanged for. No clock is read here."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

SESSION_S: Final = 30 * 24 * 3600
"""For so long is a session good, in seconds: a month."""
MOST_SIGNED_OUT: Final = 10_000
"""Sessions that have signed out and are not over yet, by which they would still be let in."""
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


class Sessions:
    """What browsers keep instead of the token, until it is over or they sign out.

    Sessions are this process's own: its key dies with it, so that what has signed out stays out after a
    restart too, although nothing is written down. Where the list of those that have signed out is full, all
    of them end.

    Args:
        token: what they were given for.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._key = secrets.token_bytes(32)
        self._signed_out: dict[str, int] = {}

    def begin(self, now_s: float) -> str:
        """Return a new one, good for `SESSION_S` from `now_s` (Unix time)."""
        words = f"{int(now_s) + SESSION_S}.{secrets.token_hex(16)}"
        return f"{words}.{self._signature(words)}"

    def admits(self, session: str, now_s: float) -> bool:
        """Say whether a session is ours, not over, and has not signed out."""
        words, _, signature = session.rpartition(".")
        is_ours = hmac.compare_digest(_digest(signature), _digest(self._signature(words)))
        return is_ours and now_s < int(words.partition(".")[0]) and words not in self._signed_out

    def end(self, session: str, now_s: float) -> None:
        """Sign a session out, whoever else has it by now."""
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
