"""Relays by protocol: an HTTP proxy to one web server (RFC 9112), and a redirection and TLS for RTSP."""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from services.capture.cameras import Camera
from services.capture.source.facts import RelayAddress
from services.capture.source.http_address import tidy
from services.capture.source.relay import CameraRelay, RelayFailed, join

_OF_ONE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization"})


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A request to an HTTP proxy.

    Attributes:
        target: the whole address that is requested.
        head: the head of the request to the server itself.
    """

    target: SplitResult
    head: bytes


def parse_request(head: bytes) -> ProxyRequest:
    """Read the head of a request to a proxy, its empty line included.

    Raises:
        ValueError: it is no such request.
    """
    first, *fields = head.split(b"\r\n")
    method, address, version = first.split(b" ")
    target = urlsplit(address.decode())
    if method != b"GET" or target.scheme != "http" or not target.hostname:
        raise ValueError(first)
    path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}".encode()
    return ProxyRequest(target, _joined(b"%b %b %b" % (method, path, version), fields))


def host_and_port(target: SplitResult) -> tuple[str, int]:
    """Return the host and the port of an address.

    Raises:
        ValueError: there is no such port.
    """
    return target.hostname or "", target.port or (443 if target.scheme == "https" else 80)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def rewrite_response(head: bytes, change_location: Callable[[str], str]) -> bytes:
    """Return the head of a response, for a connection that ends with it.

    Args:
        head: as the camera sent it, its empty line included.
        change_location: returns the address for a redirection in place of the one that it names.
    """
    first, *fields = head.split(b"\r\n")
    changed = [_relocated(field, change_location) for field in fields]
    return _joined(first, changed)


def _relocated(field: bytes, change_location: Callable[[str], str]) -> bytes:
    name, _, value = field.partition(b":")
    if name.strip().lower() != b"location":
        return field
    return b"Location: " + change_location(value.strip().decode(errors="replace")).encode()


def _joined(first: bytes, fields: list[bytes]) -> bytes:
    kept = [field for field in fields if field and _name(field) not in _OF_ONE_CONNECTION]
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].strip().lower()


_REDIRECTION = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpRelay(CameraRelay):
    """Forwards ffmpeg's requests to the camera, over TLS where its address says so."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(camera)
        self._camera_address = (self.host, self.port)
        # And whether TLS is used there. A redirection on the same host adds to them, a playlist does not.
        self._addresses = {self._camera_address: camera.scheme == "https"}

    @property
    def relay_address(self) -> RelayAddress:
        """An address that the relay redirects to the camera's own, and the relay as proxy."""
        return RelayAddress(f"http://{self._authority}{self._path}", f"http://127.0.0.1:{self.own_port}")

    @property
    def _path(self) -> str:
        # A newer ffmpeg recognises a playlist by this ending or its type, not by its content alone.
        return f"/{self.token}{'.m3u8' if self.parts.path.endswith('.m3u8') else ''}"

    @property
    def _authority(self) -> str:
        return _authority(self.host, self.port)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one request of ffmpeg's."""
        try:
            request = parse_request(await reader.readuntil(b"\r\n\r\n"))
            address = host_and_port(request.target)
        except ValueError:
            writer.write(_REFUSED)
            return
        if address == self._camera_address and request.target.path == self._path:
            writer.write(self._redirection())
            return
        if address not in self._addresses:
            writer.write(_REFUSED)
            raise RelayFailed(
                f"the camera names another address, {address[0]}:{address[1]}, and is not followed there"
            )
        try:
            async with self.connect(*address, is_tls=self._addresses[address]) as (from_camera, to_camera):
                to_camera.write(request.head)
                writer.write(await self._answer(from_camera))
                await join(reader, writer, from_camera, to_camera)
        except RelayFailed:
            writer.write(_UNREACHABLE)
            raise

    def _redirection(self) -> bytes:
        login, at, _host = self.parts.netloc.rpartition("@")
        path = tidy(self.parts)
        location = f"http://{login}{at}{self._authority}{path}"
        return _REDIRECTION % location.encode()

    async def _answer(self, from_camera: StreamReader) -> bytes:
        """Return the head of the camera's response, or all of it where it has no head."""
        try:
            head = await from_camera.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        return rewrite_response(head, self._relocate)

    def _relocate(self, location: str) -> str:
        """Allow another port on the camera's host; return the address by which ffmpeg requests it here."""
        try:
            target = urlsplit(location)
            address = host_and_port(target)
        except ValueError:
            return location
        if target.scheme not in ("http", "https") or address[0] != self.host:
            return location
        self._addresses.setdefault(address, target.scheme == "https")
        return target._replace(scheme="http", netloc=_authority(*address)).geturl()


class RtspRelay(CameraRelay):
    """Redirects ffmpeg to the camera (RFC 2326, 302 with Location), or relays to it over TLS."""

    @property
    def relay_address(self) -> RelayAddress:
        """An address on loopback that is redirected."""
        return RelayAddress(f"rtsp://127.0.0.1:{self.own_port}/{self.token}")

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Redirect a request for the token; relay any other over TLS, for a camera that speaks it."""
        head = await reader.readuntil(b"\r\n\r\n")
        if self.token.encode() in head.partition(b"\r\n")[0]:
            writer.write(self._redirection(head))
            await writer.drain()
        elif self._is_tls:
            await self._relay(head, reader, writer)

    @property
    def _is_tls(self) -> bool:
        return self.camera.scheme == "rtsps"

    def _redirection(self, head: bytes) -> bytes:
        sequence = next(
            (line for line in head.split(b"\r\n") if line.lower().startswith(b"cseq:")), b"CSeq: 1"
        )
        return b"\r\n".join(
            [b"RTSP/1.0 302 Found", sequence, f"Location: {self._destination}".encode(), b"", b""]
        )

    @property
    def _destination(self) -> str:
        if not self._is_tls:
            return self.camera.url
        login, at, _host = self.parts.netloc.rpartition("@")
        return self.parts._replace(scheme="rtsp", netloc=f"{login}{at}127.0.0.1:{self.own_port}").geturl()

    async def _relay(self, head: bytes, reader: StreamReader, writer: StreamWriter) -> None:
        async with self.connect(self.host, self.port, is_tls=True) as (from_camera, to_camera):
            to_camera.write(head)
            await join(reader, writer, from_camera, to_camera)


_RELAYS: dict[str, type[CameraRelay]] = {
    "rtsp": RtspRelay,
    "rtsps": RtspRelay,
    "http": HttpRelay,
    "https": HttpRelay,
}


@contextlib.asynccontextmanager
async def open_relay(camera: Camera) -> AsyncIterator[CameraRelay | None]:
    """Open a relay to a camera on a network, or yield None for a camera of this machine.

    Raises:
        CameraUnavailable: the camera's address cannot be understood, or there is no port on loopback.
    """
    kind = _RELAYS.get(camera.scheme)
    if kind is None:
        yield None
        return
    async with kind(camera).opened() as relay:
        yield relay
