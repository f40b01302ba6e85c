"""A camera on a web server, with the moods that such cameras have: the path says which."""

import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "admin", "s3cr%t/:@"
NONCE = "f00"


class Webcam(ThreadingHTTPServer):
    """Answers each question with one picture, or with what the path asks for.

    Attributes:
        asked: how often each path was asked for, its query with it.
        is_busy: whether it has no picture just now.
        is_streaming: whether `/sometimes` is a stream just now.
    """

    daemon_threads = True

    def __init__(self, picture: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.picture = picture
        self.asked: Counter[str] = Counter()
        self.is_busy = False
        self.is_streaming = False
        self.is_closing = False

    def url(self, path: str, *, user: str = "") -> str:
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked has gone."""


@contextlib.contextmanager
def serving(picture: bytes) -> Iterator[Webcam]:
    """Have a camera for as long as the context lasts."""
    with Webcam(picture) as webcam:
        thread = threading.Thread(target=webcam.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield webcam
        finally:
            webcam.is_closing = True
            webcam.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    server: Webcam

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        mood = self.path.strip("/").partition("?")[0]
        asks = mood.removeprefix("stream-")
        if self.server.is_busy:
            self._say(503)
        elif asks in _CHALLENGES and not self._is_known(asks):
            self._say(401, headers={"WWW-Authenticate": _CHALLENGES[asks]})
        elif mood in _MOVED:
            self._say(302, headers={"Location": _MOVED[mood]})
        elif mood == "gone":
            self._say(404)
        elif mood == "page":
            self._say(200, b"<html>Please log in</html>", headers={"Content-Type": "text/html"})
        elif mood == "slow":
            time.sleep(0.4)
            self._show()
        elif mood.startswith(("stream", "raw")) or (mood == "sometimes" and self.server.is_streaming):
            self._stream(is_multipart=mood != "raw")
        elif mood == "cut":
            picture = self.server.picture
            self._say(200, picture[: len(picture) // 2], length=len(picture))
        elif mood == "wordless":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + self.server.picture)
        else:
            self._show()

    def _show(self) -> None:
        self._say(200, self.server.picture, headers={"Content-Type": "image/jpeg"})

    def _say(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, *, is_multipart: bool) -> None:
        dialect, number = self.path.rpartition("/")[2].partition("?")[0], 0
        kind = KINDS.get(dialect, "multipart/x-mixed-replace; boundary=frame")
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind if is_multipart else "image/jpeg")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.is_closing and (self.server.is_streaming or "sometimes" not in self.path):
                picture = self.server.picture
                self.wfile.write(_part(picture, dialect, number) if is_multipart else picture)
                self.wfile.flush()
                number += 1
                time.sleep(0.05)

    def _is_known(self, mood: str) -> bool:
        given = self.headers.get("Authorization", "")
        if mood == "basic":
            return given == "Basic YWRtaW46czNjciV0LzpA"
        said = dict(re.findall(r'(\w+)="?([^",]+)"?', given))
        if said.get("username") != USER:
            return False

        def digest(text: str) -> str:
            return (hashlib.md5 if mood == "digest" else hashlib.sha256)(text.encode()).hexdigest()

        secret, question = digest(f"{USER}:cam:{PASSWORD}"), digest(f"GET:{said['uri']}")
        expected = ":".join([secret, NONCE, said["nc"], said["cnonce"], said["qop"], question])
        return bool(said["response"] == digest(expected))


DIALECTS = ("no-first-boundary", "two-boundaries", "no-type", "length-too-large", "no-length", "lf")
"""What cameras make of multipart and ffmpeg is too strict for, most of it; after the path."""
KINDS = {
    "dashes": "multipart/x-mixed-replace; boundary=--frame",
    "quoted": 'multipart/x-mixed-replace;boundary="frame"',
    "parameters": "multipart/x-mixed-replace; charset=utf-8; boundary=frame",
    "mixed": "multipart/mixed; boundary=frame",
    "octets": "application/octet-stream",
    "no-kind": "",
}
"""What they say that it is."""
MORE_DIALECTS = (*DIALECTS, *KINDS, "plain", "two-boundaries-first", "headers", "no-line-end")


def _part(picture: bytes, dialect: str, number: int) -> bytes:
    boundary, kind = b"--frame\r\n", b"Content-Type: image/jpeg\r\n"
    length = b"Content-Length: %d\r\n" % (len(picture) + 50 * (dialect == "length-too-large"))
    if dialect == "no-first-boundary" and number == 0:
        boundary = b""
    if dialect == "two-boundaries" or (dialect == "two-boundaries-first" and number == 0):
        boundary *= 2
    if dialect == "headers":
        kind += b"X-Timestamp: 0.000000\r\nX-Framerate: 10\r\n"
    head = boundary + kind * (dialect != "no-type") + length * (dialect != "no-length") + b"\r\n"
    return (
        (head.replace(b"\r\n", b"\n") if dialect == "lf" else head)
        + picture
        + b"\r\n" * (dialect != "no-line-end")
    )


_MOVED = {"moved": "/snap", "stream-moved": "/stream/plain"}
_CHALLENGES = {
    "basic": 'Basic realm="cam"',
    "digest": f'Digest realm="cam", nonce="{NONCE}", qop="auth", algorithm=MD5',
    "digest-sha256": f'Digest realm="cam", nonce="{NONCE}", qop="auth", algorithm=SHA-256',
}
