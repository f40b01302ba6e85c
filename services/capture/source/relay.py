"""A relay on loopback from ffmpeg to one camera on the network, and to nowhere else.

Every user of the machine can read a program's command line, and a program that follows redirections goes
wherever the camera sends it. So ffmpeg is given an address without secrets, of a port on loopback. There it
learns the camera's address, and there TLS is done for it: whether an ffmpeg checks certificates, and which,
depends on its version and on how it was built.
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
from services.common.runtime.trust import ANY_CERTIFICATE, Untrusted, advice, digest

TIMEOUT_S = 5.0
"""To connect to the camera, TLS included."""
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
MAX_HEAD_BYTES = 32 * 1024

_CHUNK_BYTES = 64 * 1024
_SOCKETS = Path("/proc/net/tcp")


class RelayFailed(Exception):
    """There is no connection to the camera; the message says why."""


class CameraRelay(abc.ABC):
    """A relay for one run of a camera's program.

    Args:
        camera: which is to be reached.

    Attributes:
        host: the camera's.
        port: the camera's.
        own_port: on which the relay listens, once it is opened.
        token: a random word in the relay's address, by which it knows what to redirect.
        problem: why the camera could not be reached, the last time that it could not; else empty.

    Raises:
        CameraUnavailable: its address cannot be understood.
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
        """The address that a program is given; good while the relay is open."""

    @abc.abstractmethod
    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection from the program.

        Raises:
            RelayFailed: the camera cannot be reached.
        """

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Listen; when the context ends, every connection is closed.

        Raises:
            CameraUnavailable: there is no port to listen on.
        """
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
            await asyncio.sleep(0)  # an aborted connection is closed by the loop's next turn

    @contextlib.asynccontextmanager
    async def connect(
        self, host: str, port: int, *, is_tls: bool
    ) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        """Connect to a port of the camera's host; the connection ends with the context.

        Raises:
            RelayFailed: it cannot be reached, or shows another certificate than it should.
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
        """Return the digest of the certificate that a server shows, for the user to compare; empty: none."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, port, ssl=ANY_CERTIFICATE.context())
        except (OSError, TimeoutError):
            return ""
        try:
            return digest(_certificate(writer))
        finally:
            writer.transport.abort()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        # A task of its own: Python 3.11 reports an error for a cancelled one of asyncio's streams.
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
            return  # either side has closed, or breaks the protocol: the program reports what that means
        finally:
            writer.close()


async def join(
    reader: StreamReader, writer: StreamWriter, from_camera: StreamReader, to_camera: StreamWriter
) -> None:
    """Copy bytes in both directions until either side has closed."""
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
    """Say whether a process of this user has connected: others can learn the port from the command line."""
    peer, own = (_as_listed(writer.get_extra_info(name)) for name in ("peername", "sockname"))
    try:
        lines = [line.split() for line in _SOCKETS.read_text().splitlines()[1:]]
    except OSError:
        return True  # where /proc is hidden, command lines are, too
    owners = {fields[7] for fields in lines if fields[1:3] == [peer, own]}
    return owners == {str(os.geteuid())}


def _as_listed(address: tuple[str, int]) -> str:
    """Return an IPv4 address and port in the kernel's spelling; proc(5)."""
    octets = bytes(int(octet) for octet in address[0].split("."))
    return f"{octets[::-1].hex().upper()}:{address[1]:04X}"
