"""HTTP requests to a camera's address, with the credentials that stand in it. Blocks."""

import contextlib
import hashlib
import http.client
import json
import os
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from http.client import HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit

from services.common.runtime.trust import Trust, Untrusted


class HttpKind(StrEnum):
    """How an address on a web server answers."""

    SNAPSHOT = "snapshot"
    """With one JPEG."""
    MULTIPART = "multipart"
    """With multipart content, most likely JPEGs."""
    STREAM = "stream"
    """With anything else, or not at all: ffmpeg tries to read it, and reports what is wrong."""


TIMEOUT_S = 5.0
"""How long no byte may come, in seconds."""

_ASK_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


VARIABLE = "CAMERA_ADDRESS"
"""The environment variable in which a program finds the address to request."""


class NoSnapshot(Exception):
    """There is no picture; the message says why.

    Attributes:
        may_pass: whether another request may succeed.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


_BY_DEFAULT = Trust()


def to_environment(url: str, trust: Trust) -> dict[str, str]:
    """Return the environment variables for a program that calls `from_environment`."""
    return {VARIABLE: json.dumps({"url": url, "trust": asdict(trust)})}


def from_environment() -> "HttpAddress":
    """Return the address that this process is to request.

    Raises:
        NoSnapshot: the environment has none, or it cannot be used.
    """
    try:
        told = json.loads(os.environ[VARIABLE])
        return HttpAddress(told["url"], Trust(**told["trust"]))
    except (KeyError, ValueError, TypeError):
        raise NoSnapshot(f"no address in {VARIABLE}") from None


class HttpAddress:
    """A camera's HTTP address, with its credentials.

    Args:
        url: with `user:password@`, if the camera wants them; basic and digest authentication work.
        trust: how the camera's certificate is checked.
        is_basic_fine: whether basic authentication, which sends the password itself, may be used.

    Raises:
        NoSnapshot: the file of certificate authorities cannot be read.
    """

    def __init__(self, url: str, trust: Trust = _BY_DEFAULT, *, is_basic_fine: bool = True) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = f"{parts.scheme}://{host}{tidy(parts)}"
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler({}),  # a camera is requested directly, by ffmpeg, too
            _trusting(trust),
            _StaysWith(parts.hostname),
        ]
        if parts.username is not None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            # For this host alone: they must not go with a redirection to another.
            user, password = unquote(parts.username), unquote(parts.password or "")
            passwords.add_password(None, f"{parts.scheme}://{host}/", user, password)
            handlers += [_BasicHandler(passwords)] if is_basic_fine else []
            handlers += [_DigestHandler(passwords)]
        self._opener = urllib.request.build_opener(*handlers)

    @contextlib.contextmanager
    def ask(self) -> Iterator[HTTPResponse]:
        """Send a GET request; the caller reads the response's body within the context.

        Raises:
            NoSnapshot: there is no response, or an error.
        """
        request = urllib.request.Request(self._url, headers={"User-Agent": "faceferry"})  # noqa: S310 - see `SCHEMES`
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                yield answer
        except HTTPError as error:
            error.close()
            raise NoSnapshot(f"HTTP {error.code} {error.reason}", may_pass=error.code in _ASK_LATER) from None
        except (URLError, http.client.HTTPException, OSError, Untrusted) as error:
            reason = getattr(error, "reason", None) or error
            raise NoSnapshot(f"{reason}" or type(error).__name__, may_pass=True) from None
        except ValueError as error:  # a kind of authentication, or an address, that urllib does not know
            raise NoSnapshot(str(error)) from None

    def post(self, data: bytes, content_type: str, most_bytes: int) -> tuple[int, bytes]:
        """Send a POST request; return the response's status and the first `most_bytes` of its body.

        Raises:
            NoSnapshot: there is no response.
        """
        headers = {"User-Agent": "faceferry", "Content-Type": content_type}
        request = urllib.request.Request(self._url, data, headers)  # noqa: S310 - see `SCHEMES`
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read(most_bytes)
        except HTTPError as error:
            with error:  # its body says why
                return error.code, error.read(most_bytes)
        except (URLError, http.client.HTTPException, OSError, Untrusted, ValueError) as error:
            raise NoSnapshot(f"{getattr(error, 'reason', None) or error}" or type(error).__name__) from None


class _AsksOnce(urllib.request.BaseHandler):
    """Sends a password once: cameras lock a user out after some wrong ones."""

    scheme: str

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Repeat the request with the password, if that can help; urllib calls this."""
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
    """With SHA-256 (RFC 7616), which Python's own has only from 3.14 on."""

    scheme = "digest"

    def get_algorithm_impls(self, algorithm: str) -> Any:
        if algorithm.upper() != "SHA-256":
            return super().get_algorithm_impls(algorithm)

        def digest(text: str) -> str:
            return hashlib.sha256(text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


class _StaysWith(urllib.request.HTTPRedirectHandler):
    """Follows redirections on the camera's own host alone."""

    def __init__(self, host: str | None) -> None:
        self._host = host

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: PLR0917 - urllib calls this
        """Return the next request; urllib calls this."""
        to = urlsplit(newurl)
        if to.scheme not in ("http", "https") or to.hostname != self._host:
            raise NoSnapshot(f"HTTP {code}: it sends us elsewhere, to {to.scheme}://{to.hostname}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _trusting(trust: Trust) -> "_TrustingHandler":
    try:
        return _TrustingHandler(trust, trust.context())
    except OSError as error:
        raise NoSnapshot(f"ca_file: {error.strerror or 'it holds no certificate'}") from error


class _TrustingHandler(urllib.request.HTTPSHandler):
    def __init__(self, trust: Trust, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._connect = partial(_TrustingConnection, trust=trust)
        self._trusted = context

    def https_open(self, req: Any) -> HTTPResponse:
        """Send a request over TLS; urllib calls this."""
        return self.do_open(self._connect, req, context=self._trusted)


class _TrustingConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, trust: Trust, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._trust = trust

    def connect(self) -> None:
        """Connect, and check the certificate; urllib calls this."""
        super().connect()
        self._trust.check(self.sock.getpeercert(binary_form=True))


def tidy(parts: SplitResult) -> str:
    """Return an address's path and query, quoted as a browser quotes what a user types."""
    path, query = (quote(part, safe="/%:;,@!$&'()*+=?~[]|") for part in (parts.path, parts.query))
    return f"{path or '/'}{f'?{query}' if query else ''}"
