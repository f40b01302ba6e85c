"""Servers that speak like S3, or like whatever else may stand in its place, on a loopback port."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import unquote

MODIFIED = "Wed, 25 Nov 2026 00:00:00 GMT"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_conditional(self) -> bool:
        return "if-none-match" in self.headers

    @property
    def has_checksum(self) -> bool:
        return any(name.startswith("x-amz-checksum-") or name == "content-md5" for name in self.headers)

    @property
    def access_key(self) -> str:
        return self.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]


@dataclass(frozen=True)
class Reply:
    """An answer, or `raw` bytes in its place, after which the connection ends, unless it `stays_open`."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes | None = None
    after_s: float = 0.0
    stays_open: bool = False


Manner = Callable[[Request], Reply | None]
"""Answers a request oddly; nothing leaves it to the server."""


class OddServer:
    """Answers each request as `answer` says."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.times: list[float] = []

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, unquote(target.partition("?")[0]), headers, body)
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        reply = self.answer(request)
        await asyncio.sleep(reply.after_s)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return reply.stays_open
        writer.write(_encode(reply, has_body=method != "HEAD"))
        await writer.drain()
        return True


class OddBucket(OddServer):
    """A server that keeps objects, as well as its manner lets it."""

    def __init__(self, manner: Manner | None = None) -> None:
        super().__init__()
        self.manner = manner
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}

    @property
    def puts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "PUT"]

    def answer(self, request: Request) -> Reply:
        odd = self.manner(request) if self.manner is not None else None
        return odd if odd is not None else self.answer_well(request)

    def answer_well(self, request: Request) -> Reply:
        if request.method == "PUT":
            if request.is_conditional and request.path in self.objects:
                return error(412, "PreconditionFailed")
            return self.store(request)
        if request.path not in self.objects:
            return error(404, "NoSuchKey")
        body, headers = self.objects[request.path]
        return Reply(headers={"ETag": tag(body), "Last-Modified": MODIFIED, **headers}, body=body)

    def store(self, request: Request) -> Reply:
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.startswith("x-amz-meta-") or name == "content-type"
        }
        self.objects[request.path] = (request.body, kept)
        return Reply(headers={"ETag": tag(request.body)})


class OddKeys(OddServer):
    """Gives temporary keys as the metadata service of a container does; each time others.

    Attributes:
        lifetime_s: how long they are said to be good.
        odd: what is answered instead.
    """

    def __init__(self, lifetime_s: float = 3600.0) -> None:
        super().__init__()
        self.lifetime_s = lifetime_s
        self.odd: Reply | None = None

    def answer(self, request: Request) -> Reply:  # noqa: ARG002 - all are the same
        if self.odd is not None:
            return self.odd
        until = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        keys = {
            "AccessKeyId": f"ASIA{len(self.requests)}",
            "SecretAccessKey": "test-secret",
            "Token": f"token-{len(self.requests)}",
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(keys).encode())


def error(status: int, code: str, message: str = "no", extra: str = "", **headers: str) -> Reply:
    """An error as S3 words it; header names with `_` for `-`."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "application/xml", **named}, body.encode())


def page(status: int = 200, **headers: str) -> Reply:
    """A page of somebody who is no bucket."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b"<!doctype html><title>Welcome</title>Please log in"
    return Reply(status, {"Content-Type": "text/html", **named}, body)


def tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _encode(reply: Reply, *, has_body: bool) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Said"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.status not in (204, 304):
        lines.append(f"Content-Length: {len(reply.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (reply.body if has_body else b"")
