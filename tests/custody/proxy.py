"""A TCP proxy on loopback that does to connections what networks and services do to them."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

SOCKET_BUFFER_BYTES = 64 * 1024
"""Small, so that what is slow is the link and not the memory around it."""
_QUEUED_CHUNKS = 256
_Chunk = tuple[float, bytes]
_RESET = struct.pack("ii", 1, 0)
_MQTT_CONNECT = b"\x10"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Mode(Enum):
    """What becomes of bytes: passed on, or swallowed without a word."""

    PASS = auto()
    SWALLOW = auto()


@dataclass(frozen=True, slots=True)
class Shape:
    """A bottleneck, the same in both directions.

    Attributes:
        bytes_per_s: its capacity.
        delay_s: how long a byte takes one way.
        buffer_s: how long a queue it keeps before the sender has to wait.
    """

    bytes_per_s: float
    delay_s: float
    buffer_s: float = 0.02


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server says to every request: one in trouble, or another than the one that is meant.

    Attributes:
        status: of HTTP.
        headers: lines of it.
        body: what follows them.
        length: how long the body is said to be; by default as long as it is.
    """

    status: int
    headers: tuple[str, ...] = ()
    body: str = ""
    length: int | None = None

    def encode(self) -> bytes:
        """Return the whole answer, after which the connection is closed."""
        length = len(self.body) if self.length is None else self.length
        lines = [f"HTTP/1.1 {self.status} As It Says", *self.headers, f"Content-Length: {length}"]
        return "\r\n".join([*lines, "Connection: close", "", self.body]).encode()


def s3_trouble(status: int, code: str) -> HttpAnswer:
    """Return what a bucket's server in trouble says: a status and an S3 error code."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a test's own</Message></Error>"
    return HttpAnswer(status, ("Content-Type: application/xml",), body)


class _Bottleneck:
    """The clock of one direction of a shaped link."""

    def __init__(self) -> None:
        self._free_at_s = 0.0

    async def pass_through(self, size_bytes: int, shape: Shape) -> float:
        """Wait for room in the buffer; return when these bytes come out at the far end."""
        loop = asyncio.get_running_loop()
        self._free_at_s = max(self._free_at_s, loop.time()) + size_bytes / shape.bytes_per_s
        if (ahead_s := self._free_at_s - loop.time() - shape.buffer_s) > 0:
            await asyncio.sleep(ahead_s)
        return self._free_at_s + shape.delay_s


class _Connection:
    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        # Bytes are missing from it, so it may never carry any again: its peers have to find out.
        self.is_poisoned = False
        self.is_stranded = False

    def reset(self) -> None:
        self._reset(self.writers)

    def strand(self) -> None:
        self.is_poisoned = self.is_stranded = True
        self._reset(self.writers[:1])

    def _reset(self, writers: list[asyncio.StreamWriter]) -> None:
        for writer in writers:
            connection = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):  # closed already, and then without a socket
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Stands between a client and a server on loopback, on a port of its own.

    Use it as an async context manager. Change `mode`, `shape` and `answer` at any time.

    Args:
        upstream_port: where the server listens.
        tap: is shown all bytes on their way to the server.

    Attributes:
        mode: what becomes of bytes.
        shape: the link's bottleneck; nothing for none.
        answer: said to every request instead of asking the server.
        port: where clients connect to.
    """

    def __init__(self, upstream_port: int, tap: Callable[[bytes], None] | None = None) -> None:
        self.mode = Mode.PASS
        self.shape: Shape | None = None
        self.answer: HttpAnswer | None = None
        self.port = 0
        self._upstream_port = upstream_port
        self._tap = tap
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up, self._down = _Bottleneck(), _Bottleneck()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen(self) -> None:
        """Take connections; always on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=SOCKET_BUFFER_BYTES)

    async def refuse(self) -> None:
        """Take no connections, and reset those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            connection.reset()

    def strand(self) -> None:
        """Reset every client, and leave the server with a connection that never says anything more.

        So it is for both when a client's address changes.
        """
        for connection in list(self._connections):
            connection.strand()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        self._start(self._serve(connection, reader, writer))

    async def _serve(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if self.answer is not None:
                    await _say(self.answer, reader, writer)
                else:
                    await self._join(connection, reader, writer)
        finally:
            self._connections.discard(connection)
            for each in connection.writers:
                each.close()

    async def _join(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.mode is Mode.SWALLOW:
            connection.is_poisoned = True
            await _swallow(reader)
            return
        server_reader, server_writer = await self._connect()
        connection.writers.append(server_writer)
        upward: asyncio.Queue[_Chunk] = asyncio.Queue(_QUEUED_CHUNKS)
        downward: asyncio.Queue[_Chunk] = asyncio.Queue(_QUEUED_CHUNKS)
        work = [
            asyncio.create_task(self._take_up(connection, reader, upward, self._up, self._tap)),
            asyncio.create_task(_deliver(upward, server_writer)),
            asyncio.create_task(self._take_up(connection, server_reader, downward, self._down, None)),
            asyncio.create_task(_deliver(downward, writer)),
        ]
        try:
            # The first to end is a side that has closed, after all its bytes were delivered.
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if connection.is_stranded:
                await asyncio.Event().wait()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        up = socket.socket()
        try:
            up.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            up.setblocking(False)
            await asyncio.get_running_loop().sock_connect(up, ("127.0.0.1", self._upstream_port))
            return await asyncio.open_connection(sock=up, limit=SOCKET_BUFFER_BYTES)
        except BaseException:
            up.close()
            raise

    async def _take_up(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        chunks: "asyncio.Queue[_Chunk]",
        bottleneck: _Bottleneck,
        tap: Callable[[bytes], None] | None,
    ) -> None:
        """Bring one side's bytes through the bottleneck; an empty chunk says that it has closed."""
        while data := await reader.read(self._chunk_bytes()):
            if connection.is_poisoned or self.mode is Mode.SWALLOW:
                connection.is_poisoned = True
                continue
            if tap is not None:
                tap(data)
            shape = self.shape
            at_s = await bottleneck.pass_through(len(data), shape) if shape else 0.0
            await chunks.put((at_s, data))
        await chunks.put((0.0, b""))
        await asyncio.Event().wait()

    def _chunk_bytes(self) -> int:
        if self.shape is None:
            return SOCKET_BUFFER_BYTES
        return max(512, min(SOCKET_BUFFER_BYTES, int(self.shape.bytes_per_s / 200)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _deliver(chunks: asyncio.Queue[_Chunk], writer: asyncio.StreamWriter) -> None:
    """Write each chunk when its time has come, until an empty one."""
    loop = asyncio.get_running_loop()
    while True:
        at_s, data = await chunks.get()
        if not data:
            return
        if (wait_s := at_s - loop.time()) > 0:
            await asyncio.sleep(wait_s)
        writer.write(data)
        await writer.drain()


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(SOCKET_BUFFER_BYTES):
        pass


async def _say(answer: HttpAnswer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readexactly(1)
    if head != _MQTT_CONNECT:
        head += await reader.readuntil(b"\r\n\r\n")
    if found := _CONTENT_LENGTH.search(head):
        await reader.readexactly(int(found[1]))
    writer.write(answer.encode())
    await writer.drain()
    writer.write_eof()
    await reader.read()
