"""An address on a web server, asked with the credentials that stand in it."""

import contextlib
import hashlib
import http.client
import ssl
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

TIMEOUT_S = 5.0
"""Without a byte."""

_ASK_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class NoSnapshot(Exception):
    """There is no picture; the message says why.

    Attributes:
        may_pass: whether it is worth asking again.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class Address:
    """An address with its credentials, ready to be asked.

    Args:
        url: with `user:password@`, if the camera asks for one; basic and digest both work.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        # A browser would quote what users copy out of a manual.
        path, query = (quote(part, safe="/%:;,@!$&'()*+=?~[]|") for part in (parts.path, parts.query))
        self._url = urlunsplit((parts.scheme, host, path or "/", query, ""))
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=_unchecked())]
        if parts.username is not None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            # For this host alone: a redirection elsewhere must not carry them along.
            user, password = unquote(parts.username), unquote(parts.password or "")
            passwords.add_password(None, f"{parts.scheme}://{host}/", user, password)
            handlers += [_BasicHandler(passwords), _DigestHandler(passwords)]
        self._opener = urllib.request.build_opener(*handlers)

    @contextlib.contextmanager
    def ask(self) -> Iterator[HTTPResponse]:
        """Ask once; the answer's body is read by the caller.

        Raises:
            NoSnapshot: there is no answer, or one that is no picture.
        """
        request = urllib.request.Request(self._url, headers={"User-Agent": "faceferry"})  # noqa: S310 - see `SCHEMES`
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                yield answer
        except HTTPError as error:
            error.close()
            raise NoSnapshot(f"HTTP {error.code} {error.reason}", may_pass=error.code in _ASK_LATER) from None
        except (URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise NoSnapshot(f"{reason}" or type(error).__name__, may_pass=True) from None
        except ValueError as error:  # a kind of authentication, or an address, that urllib does not know
            raise NoSnapshot(str(error)) from None


class _AsksOnce(urllib.request.BaseHandler):
    """Shows a password once: cameras lock their users out after some wrong ones."""

    scheme: str

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask again with the password, if that can help; urllib calls this."""
        offers = " ".join(headers.get_all("WWW-Authenticate", [])).lower()
        if self.scheme not in offers or (req.has_header("Authorization") and "stale=true" not in offers):
            return None
        try:
            answer = super().http_error_401(req, fp, code, msg, headers)  # type: ignore[misc]
        except HTTPError:
            fp.close()
            raise
        if answer is not None:
            fp.close()
        return answer


class _BasicHandler(_AsksOnce, urllib.request.HTTPBasicAuthHandler):
    scheme = "basic"


class _DigestHandler(_AsksOnce, urllib.request.HTTPDigestAuthHandler):
    """Knows SHA-256, too, which Python's own does only from 3.14 on; RFC 7616."""

    scheme = "digest"

    def get_algorithm_impls(self, algorithm: str) -> Any:
        if algorithm.upper() != "SHA-256":
            return super().get_algorithm_impls(algorithm)

        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def _unchecked() -> ssl.SSLContext:
    """Return what takes any certificate: cameras sign their own, and ffmpeg does not look at them either."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
