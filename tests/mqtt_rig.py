"""Servers that answer a link as they are told to, and what the link says of them."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from services.common.mqtt import Broker, Link

SILENCE = b"silence"
CLOSE = b"close"
RESET = b"reset"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[int]:
    """A server that does as it is told to each connection; its port."""

    serving: set[asyncio.Task[Any]] = set()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            await close(writer)
            serving.discard(task)

    async with await asyncio.start_server(serve_and_close, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait until it is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def acting(*steps: bytes) -> Serve:
    """Return what answers one packet with the first step, the next with the second, and then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if step is CLOSE:
                return
            if step is RESET:
                linger: socket.socket = writer.get_extra_info("socket")
                linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            await reader.read(4096)
            if step is SILENCE:
                await reader.read()
            writer.write(step)
            await writer.drain()

    return serve


@asynccontextmanager
async def downs(
    port: int, scheme: str = "mqtt", path: str = "", topic: str = "a/topic", **options: Any
) -> AsyncIterator[list[str]]:
    """The reasons that a link to a port has in its log, as they come."""
    broker = Broker(f"{scheme}://127.0.0.1:{port}{path}", **options)
    reasons: list[str] = []

    def note(_logger: object, _method: str, event: Any) -> Any:
        if event["event"] == "mqtt.link_down":
            reasons.append(event["error"])
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    try:
        async with Link("cloud", broker, identity="refused", subscriptions=[topic]):
            yield reasons
    finally:
        structlog.reset_defaults()
