"""HTTP servers: listening, gzip, and the `/healthz`, `/readyz` and `/metrics` of every service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from services.common.errors import SetupError
from services.common.runtime.http_connections import MOST_CONNECTIONS, HttpConnections

GOODBYE_S = 1.0
"""How long unfinished answers may go on once the server is stopped, seconds."""


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, setting: str, most_connections: int = MOST_CONNECTIONS
) -> AsyncIterator[int]:
    """Serve an application for as long as the context lasts; yield the port.

    Args:
        app: the application; a middleware is added to it.
        host: the address to listen on.
        port: the port; 0: any free one.
        setting: the variables that name both, for the error message.
        most_connections: connections at a time.

    Raises:
        SetupError: the port is taken, or the address is not one of this machine.
    """
    connections = HttpConnections(most_connections)
    app.middlewares.insert(0, connections.middleware)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GOODBYE_S)
    await runner.setup()
    make_protocol = runner.server
    assert make_protocol is not None
    loop = asyncio.get_running_loop()
    try:
        try:
            server = await loop.create_server(lambda: connections.wrap(make_protocol()), host, port)
        except OSError as error:
            raise SetupError(f"cannot listen on {host}:{port} ({setting}): {error}") from error
        try:
            async with connections.watched():
                yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


LEAST_BYTES = 1_024
"""Smaller answers fit into one packet uncompressed."""


def compressed(request: web.Request, response: web.Response) -> web.Response:
    """Return the same answer; it will be sent as gzip if the client accepts that and it is large enough."""
    response.headers["Vary"] = ", ".join([*response.headers.getall("Vary", []), "Accept-Encoding"])
    if (
        takes_gzip(request.headers.get("Accept-Encoding", ""))
        and (response.content_length or 0) >= LEAST_BYTES
    ):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def takes_gzip(accepted: str) -> bool:
    """Return whether an `Accept-Encoding` header accepts gzip (RFC 9110, 12.5.3)."""
    for each in accepted.lower().replace(" ", "").split(","):
        name, _, weight = each.partition(";q=")
        if name == "gzip":
            return not weight or weight.strip("0.") != ""
    return False


Check = Callable[[], str | None]
"""Returns None while a dependency works, else why it does not, in words."""
OPENMETRICS = "application/openmetrics-text"

log = structlog.get_logger()


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    checks: Mapping[str, Check],
    routes: Iterable[web.RouteDef] = (),
    notes: Mapping[str, Check] = MappingProxyType({}),
) -> AsyncIterator[None]:
    """Serve `/healthz` (is the loop alive), `/readyz` (do the dependencies work) and `/metrics`.

    Args:
        host: the address to listen on.
        port: the port; 0: any free one, which is logged.
        checks: the dependencies' checks by name.
        routes: the service's further routes.
        notes: further checks that `/readyz` shows by name; readiness does not depend on them.

    Raises:
        SetupError: the port is taken, or the address is not one of this machine.
    """
    app = web.Application()
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz(checks, notes))
    app.router.add_get("/metrics", _metrics)
    app.router.add_routes(routes)
    async with listening(app, host, port, "FACEFERRY_HTTP_HOST, FACEFERRY_HTTP_PORT") as actual_port:
        log.info("health.listening", host=host, port=actual_port)
        yield


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readyz(
    checks: Mapping[str, Check], notes: Mapping[str, Check]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def readyz(_request: web.Request) -> web.Response:
        problems = {name: check() for name, check in checks.items()}
        is_ready = not any(problems.values())
        body = {"ready": is_ready, "checks": {name: why or "ok" for name, why in problems.items()}}
        if notes:
            body["notes"] = {name: note() or "ok" for name, note in notes.items()}
        return web.json_response(body, status=200 if is_ready else 503)

    return readyz


async def _metrics(request: web.Request) -> web.Response:
    if _takes_openmetrics(request.headers.get("Accept", "")):
        content_type = openmetrics.CONTENT_TYPE_LATEST
        body = openmetrics.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    else:
        content_type, body = CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
    answer = web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})
    return compressed(request, answer)


def _takes_openmetrics(accept: str) -> bool:
    """Return whether an `Accept` header names OpenMetrics, in any version: all clients read 1.0."""
    # prometheus_client's own check fails if the version is not a number.
    return any(each.partition(";")[0].strip() == OPENMETRICS for each in accept.lower().split(","))
