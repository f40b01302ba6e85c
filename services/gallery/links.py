"""Signed addresses of images, valid for a time without a session. Pure: time is an argument."""

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
    """Signs paths and checks signatures; every process with the same token agrees.

    Args:
        token: the gallery's; another token invalidates all links.
        valid_s: a link is valid for so many seconds, up to twice as long: all links of one such span are
            equal, so that feed readers fetch an image once.
    """

    def __init__(self, token: str, valid_s: int) -> None:
        self._key = hmac.digest(token.encode(), b"faceferry gallery links", "sha256")
        self._valid_s = valid_s

    def signed(self, path: str, now_s: float) -> str:
        """Return a path (without a query) with a signature, valid from `now_s` on (Unix time)."""
        until_s = (int(now_s) // self._valid_s + 2) * self._valid_s
        return f"{path}?{urlencode({UNTIL: until_s, SIGNATURE: self._signature(path, str(until_s))})}"

    def admit(self, path: str, query: Mapping[str, str], now_s: float) -> bool:
        """Say whether the query has a valid signature of the path at `now_s` (Unix time)."""
        until, signature = query.get(UNTIL, ""), query.get(SIGNATURE, "")
        if not _SECONDS.fullmatch(until) or now_s >= int(until):
            return False
        given = hashlib.sha256(signature.encode(errors="surrogatepass")).digest()
        wanted = hashlib.sha256(self._signature(path, until).encode()).digest()
        return hmac.compare_digest(given, wanted)

    def _signature(self, path: str, until: str) -> str:
        return hmac.digest(self._key, f"{until}\n{path}".encode(errors="surrogatepass"), "sha256").hex()
