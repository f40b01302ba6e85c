"""An address on a web server, asked with the credentials that stand in it."""

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
    """With one JPEG, and no more."""
    MULTIPART = "multipart"
    """With parts, JPEGs in all likelihood."""
    STREAM = "stream"
    """With anything else, or not at all: ffmpeg makes the best of it, and tells best of trouble."""


TIMEOUT_S = 5.0
"""Without a byte."""

_ASK_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


VARIABLE = "CAMERA_ADDRESS"
"""Where a program finds the address that it is to ask, in its environment."""


class NoSnapshot(Exception):
    """There is no picture; the message says why.

    Attributes:
        may_pass: whether it is worth asking again.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


_BY_DEFAULT = Trust()


def to_environment(url: str, trust: Trust) -> dict[str, str]:
    """Return what has to stand in a program's environment for `from_environment`."""
    return {VARIABLE: json.dumps({"url": url, "trust": asdict(trust)})}


def from_environment() -> "HttpAddress":
    """Return the address that this process is to ask.

    Raises:
        NoSnapshot: none is named, or it cannot be asked.
    """
    try:
        told = json.loads(os.environ[VARIABLE])
        return HttpAddress(told["url"], Trust(**told["trust"]))
    except (KeyError, ValueError, TypeError):
        raise NoSnapshot(f"no address in {VARIABLE}") from None


class HttpAddress:
    """An address with its credentials, ready to be asked.

    Args:
        url: with `user:password@`, if the camera asks for one; basic and digest both work.
        trust: whose certificate it has to show.
        is_basic_fine: whether the password itself may be told who asks for it.

    Raises:
        NoSnapshot: those who may have signed it cannot be read.
    """

    def __init__(self, url: str, trust: Trust = _BY_DEFAULT, *, is_basic_fine: bool = True) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = f"{parts.scheme}://{host}{tidy(parts)}"
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler({}),  # a camera is asked directly, as ffmpeg is made to ask it
            _trusting(trust),
            _StaysWith(parts.hostname),
        ]
        if parts.username is not None:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            # For this host alone: a redirection elsewhere must not carry them along.
            user, password = unquote(parts.username), unquote(parts.password or "")
            passwords.add_password(None, f"{parts.scheme}://{host}/", user, password)
            handlers += [_BasicHandler(passwords)] if is_basic_fine else []
            handlers += [_DigestHandler(passwords)]
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
        except (URLError, http.client.HTTPException, OSError, Untrusted) as error:
            reason = getattr(error, "reason", None) or error
            raise NoSnapshot(f"{reason}" or type(error).__name__, may_pass=True) from None
        except ValueError as error:  # a kind of authentication, or an address, that urllib does not know
            raise NoSnapshot(str(error)) from None

    def post(self, data: bytes, content_type: str, most_bytes: int) -> tuple[int, bytes]:
        """Return the status and the body of the answer to a question, the body's first `most_bytes`.

        Raises:
            NoSnapshot: there is no answer.
        """
        headers = {"User-Agent": "faceferry", "Content-Type": content_type}
        request = urllib.request.Request(self._url, data, headers)  # noqa: S310 - see `SCHEMES`
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read(most_bytes)
        except HTTPError as error:
            with error:  # it has a body, which tells why
                return error.code, error.read(most_bytes)
        except (URLError, http.client.HTTPException, OSError, Untrusted, ValueError) as error:
            raise NoSnapshot(f"{getattr(error, 'reason', None) or error}" or type(error).__name__) from None


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


class _StaysWith(urllib.request.HTTPRedirectHandler):
    """Goes where it is sent, on the camera's own host: a camera decides nothing about others."""

    def __init__(self, host: str | None) -> None:
        self._host = host

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: PLR0917 - urllib calls this
        """Return what to ask next."""
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
        """Ask over TLS; urllib calls this."""
        return self.do_open(self._connect, req, context=self._trusted)


class _TrustingConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, trust: Trust, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._trust = trust

    def connect(self) -> None:
        """Connect, and look who is there."""
        super().connect()
        self._trust.check(self.sock.getpeercert(binary_form=True))


def tidy(parts: SplitResult) -> str:
    """Return an address's path and query, quoted as a browser would what users copy out of a manual."""
    path, query = (quote(part, safe="/%:;,@!$&'()*+=?~[]|") for part in (parts.path, parts.query))
    return f"{path or '/'}{f'?{query}' if query else ''}"
