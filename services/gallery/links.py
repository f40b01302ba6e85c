"""Addresses of images that are good for a while for whoever has them. No clock is read here."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

UNTIL, SIGNATURE = "until", "signature"
_MOST_DIGITS: Final = 12
_SECONDS = re.compile(rf"\d{{1,{_MOST_DIGITS}}}", re.ASCII)


class Links:
    """Signs paths, and knows what it has signed; so does every other process with the same token.

    Args:
        token: the gallery's; with another one no link is good any more.
        valid_s: for so many seconds a link is good, or up to twice as long: those of one such span are the
            same, so that whoever reads feeds has an image once.
    """

    def __init__(self, token: str, valid_s: int) -> None:
        self._key = hmac.digest(token.encode(), b"faceferry gallery links", "sha256")
        self._valid_s = valid_s

    def signed(self, path: str, now_s: float) -> str:
        """Return a path (without a query) with what lets its bearer in, from `now_s` on (Unix time)."""
        until_s = (int(now_s) // self._valid_s + 2) * self._valid_s
        return f"{path}?{urlencode({UNTIL: until_s, SIGNATURE: self._signature(path, str(until_s))})}"

    def admit(self, path: str, query: Mapping[str, str], now_s: float) -> bool:
        """Say whether a path was signed with this query, and not too long ago."""
        until, signature = query.get(UNTIL, ""), query.get(SIGNATURE, "")
        if not _SECONDS.fullmatch(until) or now_s >= int(until):
            return False
        given = hashlib.sha256(signature.encode(errors="surrogatepass")).digest()
        wanted = hashlib.sha256(self._signature(path, until).encode()).digest()
        return hmac.compare_digest(given, wanted)

    def _signature(self, path: str, until: str) -> str:
        return hmac.digest(self._key, f"{until}\n{path}".encode(errors="surrogatepass"), "sha256").hex()
