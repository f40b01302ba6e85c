"""A web server that answers as it is told, and another that nobody but a misled program ever asks."""

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HostileCamera(ThreadingHTTPServer):
    """Serves what lies in `pages`, a path for a body, or for an address to be sent to.

    Attributes:
        asked: each path that was asked for.
        authorizations: what each of them was asked with.
    """

    daemon_threads = True

    def __init__(self, address: str, pages: Mapping[str, bytes | str], tls: ssl.SSLContext | None) -> None:
        super().__init__((address, 0), _Handler)
        self.pages = dict(pages)
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self._scheme = "http"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self._scheme = "https"

    def url(self, path: str, *, user: str = "", host: str = "") -> str:
        address = host or str(self.server_address[0])
        return f"{self._scheme}://{user}{'@' if user else ''}{address}:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: HostileCamera

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorizations.append(self.headers.get("Authorization", ""))
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        self.send_response(302 if isinstance(page, str) else 200)
        if isinstance(page, str):
            self.send_header("Location", page)
            page = b""
        if page.startswith(b"#EXTM3U"):
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(page)


@contextlib.contextmanager
def serving(
    pages: Mapping[str, bytes | str],
    address: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[HostileCamera]:
    """Have a server for as long as the context lasts."""
    with HostileCamera(address, pages, tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
