"""A way to one camera and to nowhere else, for a program that is not told where it leads.

What stands in a program's command line every user of the machine can read, and a program that follows what
a camera says goes wherever the camera likes. So ffmpeg is given an address that holds no secret and leads to
a port on loopback. There it learns the camera's, and there TLS is spoken for it: whether an ffmpeg looks at
certificates, and at which, depends on its version and on how it was built.
"""

import abc
import asyncio
import contextlib
import os
import secrets
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from services.capture.cameras import Camera
from services.capture.source.child import CameraUnavailable
from services.capture.source.facts import RelayAddress
from services.common.runtime.trust import ANYBODY, Untrusted, advice, digest

TIMEOUT_S = 5.0
"""To connect, TLS and all."""
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
MAX_HEAD_BYTES = 32 * 1024

_CHUNK_BYTES = 64 * 1024
_SOCKETS = Path("/proc/net/tcp")


class RelayFailed(Exception):
    """There is no way; the message says why."""


class CameraRelay(abc.ABC):
    """Opened for one run of a camera's program.

    Args:
        camera: where it leads.

    Attributes:
        problem: why it has led nowhere, the last time that it did not.
    """

    def __init__(self, camera: Camera) -> None:
        try:
            parts = urlsplit(camera.url)
            self.host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise CameraUnavailable(f"no such address: {error}") from None
        self.camera = camera
        self.parts = parts
        self.port = port or DEFAULT_PORTS[camera.scheme]
        self.token = secrets.token_urlsafe(16)
        self.own_port = 0
        self.problem = ""
        self._connections: set[asyncio.Task[None]] = set()

    @property
    @abc.abstractmethod
    def relay_address(self) -> RelayAddress:
        """What a program is told."""

    @abc.abstractmethod
    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection of the program's."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Be open; when the context ends, every connection has."""
        try:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
        except OSError as error:
            raise CameraUnavailable(f"no port on loopback: {error.strerror}") from error
        self.own_port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            if connections := set(self._connections):
                for connection in connections:
                    connection.cancel()
                await asyncio.wait(connections)
            await asyncio.sleep(0)  # a connection that is given up is closed a moment later

    @contextlib.asynccontextmanager
    async def connect(
        self, host: str, port: int, *, is_tls: bool
    ) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        """Have a connection to the camera.

        Raises:
            Closed: it cannot be reached, or is not the one that it should be.
        """
        reader, writer = await self._connect(host, port, is_tls=is_tls)
        try:
            if is_tls:
                self.camera.options.trust.check(_certificate(writer))
            yield reader, writer
        except Untrusted as error:
            raise RelayFailed(str(error)) from error
        finally:
            writer.transport.abort()

    async def _connect(self, host: str, port: int, *, is_tls: bool) -> tuple[StreamReader, StreamWriter]:
        try:
            context = self.camera.options.trust.context() if is_tls else None
        except OSError as error:
            raise RelayFailed(f"ca_file: {error.strerror or 'it holds no certificate'}") from error
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asyncio.open_connection(host, port, ssl=context, limit=MAX_HEAD_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise RelayFailed(advice(error, await self._shown_by(host, port))) from error
        except TimeoutError:
            raise RelayFailed(f"no answer within {TIMEOUT_S:g} s") from None
        except OSError as error:
            raise RelayFailed(str(error)) from error

    async def _shown_by(self, host: str, port: int) -> str:
        """Return the digest of the certificate that a server shows, for whoever wants to compare it."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port, ssl=ANYBODY.context())
        except (OSError, TimeoutError):
            return ""
        try:
            return digest(_certificate(writer))
        finally:
            writer.transport.abort()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        # A task of its own: one of asyncio's, cancelled, is shouted about by Python 3.11.
        connection = asyncio.create_task(
            self._handle(reader, writer), name=f"capture.{self.camera.name}.relay"
        )
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            if _is_ours(writer):
                await self.serve(reader, writer)
        except RelayFailed as closed:
            self.problem = str(closed)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # either side has gone, or talks nonsense: the program says what that means to it
        finally:
            writer.close()


async def join(
    reader: StreamReader, writer: StreamWriter, from_camera: StreamReader, to_camera: StreamWriter
) -> None:
    """Hand on what either says to the other, until one of them has gone."""
    ways = [asyncio.create_task(way) for way in (_pump(reader, to_camera), _pump(from_camera, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)


async def _pump(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _certificate(writer: StreamWriter) -> bytes | None:
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return found


def _is_ours(writer: StreamWriter) -> bool:
    """Say whether it is a process of this user that has come: others learn the port from the command line."""
    peer, own = (_as_listed(writer.get_extra_info(name)) for name in ("peername", "sockname"))
    try:
        lines = [line.split() for line in _SOCKETS.read_text().splitlines()[1:]]
    except OSError:
        return True  # where the system does not tell, it does not show command lines this way either
    owners = {fields[7] for fields in lines if fields[1:3] == [peer, own]}
    return owners == {str(os.geteuid())}


def _as_listed(address: tuple[str, int]) -> str:
    """Return an IPv4 address and port in the kernel's spelling; proc(5)."""
    octets = bytes(int(octet) for octet in address[0].split("."))
    return f"{octets[::-1].hex().upper()}:{address[1]:04X}"
