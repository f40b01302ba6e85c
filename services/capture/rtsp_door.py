"""The door to an RTSP camera: the first question is answered with the camera's own address.

From there on ffmpeg and the camera speak with each other; over TLS, through this door.
"""

from asyncio import StreamReader, StreamWriter

from services.capture.door import Door, join
from services.capture.sources import Entrance


class RtspDoor(Door):
    """Redirects (RFC 2326, 302 with Location), as ffmpeg follows it from its first question on."""

    @property
    def entrance(self) -> Entrance:
        """An address on loopback that is good for nothing but to be sent on."""
        return Entrance(f"rtsp://127.0.0.1:{self.own_port}/{self.token}")

    async def lead(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Send on whoever asks for the token; pass on what else is said, if TLS has to be spoken for it."""
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
        async with self.reach(self.host, self.port, is_tls=True) as (from_camera, to_camera):
            to_camera.write(head)
            await join(reader, writer, from_camera, to_camera)
