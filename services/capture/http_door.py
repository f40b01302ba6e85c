"""The door to a camera on a web server: a proxy that leads to this camera alone.

A playlist may name any host, and so may a redirection. On the camera's own ffmpeg may go where it is sent.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from urllib.parse import urlsplit

from services.capture.address import tidy
from services.capture.cameras import Camera
from services.capture.door import Closed, Door, join
from services.capture.http_head import change_answer, parse_question, place_of
from services.capture.sources import Entrance

_REDIRECTION = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpDoor(Door):
    """Asks the camera what ffmpeg asks, over TLS where the camera speaks it."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(camera)
        self._place = (self.host, self.port)
        # Whether TLS is spoken there. A redirection on the same host adds to them, a playlist does not.
        self._places = {self._place: camera.scheme == "https"}

    @property
    def entrance(self) -> Entrance:
        """An address on the camera's host that leads to the right one, and the proxy that knows it."""
        return Entrance(f"http://{self._authority}{self._knock}", f"http://127.0.0.1:{self.own_port}")

    @property
    def _knock(self) -> str:
        # By this ending, or by its type, a newer ffmpeg knows a playlist, and not by what is in it alone.
        return f"/{self.token}{'.m3u8' if self.parts.path.endswith('.m3u8') else ''}"

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def lead(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one question."""
        try:
            question = parse_question(await reader.readuntil(b"\r\n\r\n"))
            place = place_of(question.target)
        except ValueError:
            writer.write(_REFUSED)
            return
        if place == self._place and question.target.path == self._knock:
            writer.write(self._redirection())
            return
        if place not in self._places:
            writer.write(_REFUSED)
            raise Closed(
                f"the camera names another address, {place[0]}:{place[1]}, and is not followed there"
            )
        try:
            async with self.reach(*place, is_tls=self._places[place]) as (from_camera, to_camera):
                to_camera.write(question.head)
                writer.write(await self._answer(from_camera))
                await join(reader, writer, from_camera, to_camera)
        except Closed:
            writer.write(_UNREACHABLE)
            raise

    def _redirection(self) -> bytes:
        login, at, _host = self.parts.netloc.rpartition("@")
        path = tidy(self.parts)
        location = f"http://{login}{at}{self._authority}{path}"
        return _REDIRECTION % location.encode()

    async def _answer(self, from_camera: StreamReader) -> bytes:
        """Return the head of the camera's answer, or the whole of one that has none."""
        try:
            head = await from_camera.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        return change_answer(head, self._relocate)

    def _relocate(self, location: str) -> str:
        """Take note of another place on the camera's host, for which ffmpeg then asks here as well."""
        try:
            target = urlsplit(location)
            place = place_of(target)
        except ValueError:
            return location
        if target.scheme not in ("http", "https") or place[0] != self.host:
            return location
        self._places.setdefault(place, target.scheme == "https")
        host = f"[{place[0]}]" if ":" in place[0] else place[0]
        return target._replace(scheme="http", netloc=f"{host}:{place[1]}").geturl()
